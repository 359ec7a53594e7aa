"""Fast R-CNN is the second half of Faster R-CNN."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg import load_experiment
from detcfg.config import ConfigError
from detcfg.detectors.batch_augments import BatchSyncRandomResizeConfig
from detcfg.detectors.fast_rcnn import FastRCNN, FastRCNNConfig
from detcfg.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from detcfg.errors import DetcfgError
from detcfg.structures import Detections, Targets
from tests.support.small import narrow

FASTER = cast(
    "FasterRCNNConfig", narrow(evolve(load_experiment("faster_rcnn").model, num_classes=3), depth=18)
)
CONFIG = FastRCNNConfig(num_classes=3, backbone=FASTER.backbone, neck=FASTER.neck, roi_head=FASTER.roi_head)
SIZES = [(64, 96), (80, 64)]


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for size in SIZES]


def targets() -> list[Targets]:
    box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    return [Targets(boxes=box, labels=torch.tensor([label])) for label in (0, 2)]


def both() -> tuple[FasterRCNN, FastRCNN]:
    """Faster and Fast R-CNN with the same weights."""
    torch.manual_seed(0)
    faster, fast = FASTER.build(), CONFIG.build()
    weights = faster.state_dict()
    fast.load_state_dict({name: weights[name] for name in fast.state_dict()})
    return faster, fast


def proposals(faster: FasterRCNN) -> list[Detections]:
    with torch.no_grad():
        batch = faster.data_preprocessor(images())
        return faster.rpn_head.proposals(faster.extract_features(batch.tensor), batch)


def test_with_the_proposals_of_faster_r_cnn_it_finds_the_same() -> None:
    faster, fast = both()
    faster.eval(), fast.eval()
    with torch.no_grad():
        wanted = faster.predict(images())
        found = fast(images(), proposals=proposals(faster))
    assert isinstance(found, list)
    assert sum(map(len, found)) > 0
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.boxes, other.boxes)
        torch.testing.assert_close(one.scores, other.scores)


def test_its_losses_are_those_of_the_second_stage() -> None:
    faster, fast = both()
    given = proposals(faster.eval())
    torch.manual_seed(1)
    losses = fast.train()(images(), targets(), given)
    assert isinstance(losses, dict)
    batch = fast.data_preprocessor(images())
    torch.manual_seed(1)
    wanted = fast.roi_head.loss(fast.extract_features(batch.tensor), given, batch, targets())
    assert losses.keys() == wanted.keys() == {"loss_cls", "loss_bbox"}
    for name, value in losses.items():
        torch.testing.assert_close(value, wanted[name])


@pytest.mark.parametrize("count", [None, 1])
def test_without_the_proposals_of_each_image_it_says_what_to_do(count: int | None) -> None:
    given = proposals(both()[0].eval())
    model = CONFIG.build()
    with pytest.raises(
        DetcfgError, match=r"needs the proposals of 2 images, .* model\(images, targets, proposals\)"
    ):
        model.loss(images(), targets(), None if count is None else given[:count])


def test_augments_of_the_batch_would_leave_the_proposals_behind() -> None:
    preprocessor = evolve(
        FASTER.data_preprocessor, batch_augments=(BatchSyncRandomResizeConfig(random_size_range=(64, 96)),)
    )
    with pytest.raises(ConfigError, match="under the proposals"):
        evolve(CONFIG, data_preprocessor=preprocessor).resolved()
