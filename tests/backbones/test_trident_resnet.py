"""TridentNet: branches of a backbone, and what becomes of what they find."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg.backbones.trident_resnet import TridentResNetConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError
from detcfg.detectors.trident_faster_rcnn import TridentFasterRCNNConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.trident_roi_head import TridentRoIHead, TridentRoIHeadConfig
from detcfg.structures import Detections

CONFIG = TridentResNetConfig(base_channels=8)


def test_each_branch_is_the_network_with_its_dilation() -> None:
    torch.manual_seed(0)
    every = evolve(CONFIG, test_branch_idx=-1).build().eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        (together,) = every(images)
        for index in range(3):
            single = evolve(CONFIG, test_branch_idx=index).build().eval()
            single.load_state_dict(every.state_dict())
            torch.testing.assert_close(together[2 * index : 2 * index + 2], single(images)[0])


def test_in_training_all_branches_are_in_use() -> None:
    assert 6 == len(CONFIG.build().train()(torch.randn(2, 3, 64, 64))[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_branch": 2}, r"trident_dilations is \(1, 2, 3\), but num_branch is 2"),
        ({"test_branch_idx": 3}, "test_branch_idx is 3, but num_branch is 3"),
        ({"depth": 18}, "depth is 18"),
        ({"frozen_stages": 3}, "frozen_stages is 3"),
    ],
)
def test_branches_that_do_not_fit_are_an_error(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(CONFIG, **changes).resolved()


def test_the_head_has_the_backbones_branches() -> None:
    model = TridentFasterRCNNConfig(num_classes=2, backbone=evolve(CONFIG, test_branch_idx=-1))
    head = model.resolved().roi_head
    assert (3, -1) == (head.num_branch, head.test_branch_idx)

    with pytest.raises(ConfigError, match=r"roi_head\.num_branch is 2, but backbone\.num_branch makes it 3"):
        evolve(model, roi_head=TridentRoIHeadConfig(num_branch=2)).resolved()


def test_of_what_several_branches_find_the_best_is_kept() -> None:
    config = TridentRoIHeadConfig(
        num_branch=2,
        test_branch_idx=-1,
        num_classes=3,
        in_channels=4,
        in_strides=(16,),
        test_cfg=RoITestConfig(nms=NMSConfig(iou_threshold=0.5), max_per_img=2),
    )
    head = config.build()
    assert isinstance(head, TridentRoIHead)
    box, other = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0]
    first = Detections(
        boxes=torch.tensor([box, other]), scores=torch.tensor([0.6, 0.5]), labels=torch.tensor([1, 1])
    )
    second = Detections(
        boxes=torch.tensor([box, box]), scores=torch.tensor([0.9, 0.4]), labels=torch.tensor([1, 2])
    )

    merged = head.merged([first, second])

    torch.testing.assert_close(torch.tensor([0.9, 0.5]), merged.scores)
    torch.testing.assert_close(torch.tensor([box, other]), merged.boxes)
