"""The region proposal network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor
from torch.testing import assert_close

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ConfigError
from detcfg.heads.proposal.rpn_head import RPNHead, RPNHeadConfig, RPNTestConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.structures import ImageBatch, Targets
from tests.support.dense import SIZE, STRIDES, batch, features, objects

FEW = RandomSamplerConfig(num=32, pos_fraction=0.5, add_gt_as_proposals=False)
PLAIN = RPNHeadConfig(sampler=FEW, anchor_generator=AnchorGeneratorConfig(scales=(4.0,)))
TWO = [objects((20, 30, 100, 90), (120, 40, 180, 120)), objects((0, 0, 40, 60))]


def rpn(config: RPNHeadConfig) -> RPNHead:
    torch.manual_seed(0)
    return placed(config).build()


def placed(config: RPNHeadConfig) -> RPNHeadConfig:
    return evolve(config, in_channels=32, feat_channels=32, in_strides=STRIDES).resolved()


def losses_and_gradients(
    head: RPNHead, images: ImageBatch, targets: list[Targets]
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    maps = tuple(level.requires_grad_() for level in features())
    torch.manual_seed(0)  # of the sampler
    losses, _ = head.loss_and_proposals(maps, images, targets)
    total = torch.stack(list(losses.values())).sum()
    return losses, torch.autograd.grad(total, [*maps, *head.parameters()])


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        evolve(PLAIN, reg_decoded_bbox=True, loss_bbox=GIoULossConfig()),
        evolve(PLAIN, allowed_border=0, pos_weight=2.0),
    ],
    ids=["codes", "decoded boxes", "anchors inside"],
)
@pytest.mark.parametrize("targets", [TWO, [objects(), objects()]], ids=["objects", "no objects"])
@pytest.mark.parametrize("second", [SIZE, (64, 96)], ids=["one size", "two sizes"])
def test_going_back_from_the_sampled_places_alone_changes_no_loss_and_no_gradient(
    config: RPNHeadConfig, targets: list[Targets], second: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, images = rpn(config), evolve(batch(), sizes=(SIZE, second), padded_sizes=(SIZE, second))
    assert head.uses_sparse_backward(features())

    few = losses_and_gradients(head, images, targets)
    monkeypatch.setattr(head, "uses_sparse_backward", lambda _: False)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    whole = losses_and_gradients(head, images, targets)

    assert_close(few, whole, rtol=1e-4, atol=1e-6)


def test_it_goes_back_from_whole_maps_where_most_places_are_sampled_or_the_layers_are_others() -> None:
    class Twice(RPNHead):
        def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
            return super().forward_single(2 * feature, level)

    assert not rpn(evolve(PLAIN, sampler=evolve(FEW, num=512))).uses_sparse_backward(features())
    assert not rpn(evolve(PLAIN, sampler=PseudoSamplerConfig())).uses_sparse_backward(features())
    assert not rpn(evolve(PLAIN, num_convs=2)).uses_sparse_backward(features())
    assert not Twice(placed(PLAIN)).uses_sparse_backward(features())


@torch.no_grad()
def test_by_itself_its_least_size_is_in_pixels_of_the_output() -> None:
    """In a two-stage detector it is in pixels of the network."""
    large = evolve(PLAIN, test_cfg=RPNTestConfig(min_bbox_size=50, nms_pre=300, max_per_img=-1))
    head, doubled = rpn(large).eval(), batch(output_size=(2 * SIZE[0], 2 * SIZE[1]))
    found, proposals = head.predict(features(), doubled)[0], head.proposals(features(), doubled)[0]

    assert 50 < float((found.boxes[:, 2:] - found.boxes[:, :2]).min()) < 100
    assert 50 < float((proposals.boxes[:, 2:] - proposals.boxes[:, :2]).min())
    assert 0 < len(proposals) < len(found)


@pytest.mark.parametrize("value", [{"score_thr": 0.05}, {"geometric_scores": True}], ids=str)
def test_a_threshold_for_proposals_has_no_effect_and_is_refused(value: dict[str, Any]) -> None:
    (name,) = value
    reason = rf"test_cfg: {name} is .*, which has no effect: proposals go by rank\. Leave {name} out"

    with pytest.raises(ConfigError, match=reason):
        evolve(placed(PLAIN), test_cfg=RPNTestConfig(**value)).resolved()
