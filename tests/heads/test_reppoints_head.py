"""RepPoints' head and its point sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.config import ConfigError
from detcfg.experiments import reppoints
from detcfg.heads.anchor_free.rep_points import (
    TransformMethod,
    grids_on_boxes,
    kernel_offsets,
    points_to_boxes,
)
from detcfg.heads.anchor_free.reppoints_head import RepPointsHead, RepPointsHeadConfig
from detcfg.layers.deform_conv import DCNConfig
from detcfg.layers.norm import GNConfig
from tests.support import zoo
from tests.support.dense import batch, built, features, objects

Y = tensor([1.0, 5.0, 3.0, 2.0, 9.0])
X = tensor([0.0, 4.0, 8.0, 2.0, -6.0])
POINTS = torch.stack((Y, X), dim=1).reshape(1, 10, 1, 1)


@pytest.mark.parametrize(
    ("method", "expected"), [("minmax", (-6.0, 1.0, 8.0, 9.0)), ("partial_minmax", (0.0, 1.0, 8.0, 5.0))]
)
def test_the_smallest_box_holds_all_points_or_the_first_four(
    method: TransformMethod, expected: tuple[float, ...]
) -> None:
    assert points_to_boxes(POINTS, method).flatten().tolist() == list(expected)


def test_moments_give_the_centre_and_half_of_the_sides() -> None:
    box = points_to_boxes(POINTS, "moment", tensor([2.0, 3.0]).log()).flatten()

    assert_close((box[:2] + box[2:]) / 2, torch.stack((X.mean(), Y.mean())))
    assert_close((box[2:] - box[:2]) / 2, torch.stack((2 * X.std(), 3 * Y.std())))


def test_a_grid_spans_its_moved_and_grown_box() -> None:
    boxes = tensor([2.0, 4.0, 6.0, 10.0]).view(1, 4, 1, 1)
    codes = tensor([0.5, -0.5, 0.0, torch.log(tensor(2.0))]).view(1, 4, 1, 1)

    points, moved = grids_on_boxes(codes, boxes, 3)

    # The centre (4, 7) moves by (2, -3); the height doubles.
    assert_close(moved.flatten(), tensor([4.0, -2.0, 8.0, 10.0]))
    assert_close(points.flatten()[0::2], tensor([-2.0] * 3 + [4.0] * 3 + [10.0] * 3))
    assert_close(points.flatten()[1::2], tensor([4.0, 6.0, 8.0] * 3))
    assert_close(points_to_boxes(points, "minmax"), moved)


def test_points_on_the_taps_of_the_kernel_are_an_ordinary_convolution() -> None:
    head = built(RepPointsHeadConfig(stacked_convs=0))
    assert isinstance(head, RepPointsHead)
    x = torch.randn(1, 32, 6, 7)
    torch.nn.init.zeros_(head.reppoints_pts_init_out.weight)
    head.reppoints_pts_init_out.bias.data = kernel_offsets(3).flatten()

    logits, init, _ = head.forward_single(x, 0)

    hidden = torch.nn.functional.conv2d(x, head.reppoints_cls_conv.weight, padding=1).relu()
    assert_close(logits, head.reppoints_cls_out(hidden), rtol=1e-4, atol=1e-5)
    assert_close(init[0, :, 2, 3], kernel_offsets(3).flatten())


VARIANTS: dict[str, dict[str, Any]] = {
    "center": {},
    "from a grid": {"center_init": False, "transform_method": "minmax"},
    "partial": {"transform_method": "partial_minmax", "num_points": 25},
    "grid": {
        "transform_method": "minmax",
        "use_grid_points": True,
        "init_assigner": MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4),
    },
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_part_of_every_variant_learns(variant: str) -> None:
    head = built(RepPointsHeadConfig(stacked_convs=1, **VARIANTS[variant]))
    big, small = (16.0, 24.0, 140.0, 110.0), (100.0, 40.0, 132.0, 72.0)

    losses = head.loss(features(), batch(), [objects(big, small), objects()])

    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_few_gradients_of_the_refinement_reach_the_first_points() -> None:
    def gradient(share: float) -> Tensor:
        head = built(RepPointsHeadConfig(stacked_convs=1, gradient_mul=share))
        assert isinstance(head, RepPointsHead)
        head(features(1))[0][0].square().sum().backward()
        assert head.reppoints_pts_init_out.weight.grad is not None
        return head.reppoints_pts_init_out.weight.grad

    assert_close(gradient(0.1) * 10, gradient(1.0))


@pytest.mark.parametrize("number", [1, 4, 10])
def test_points_are_the_square_of_an_odd_number(number: int) -> None:
    with pytest.raises(ConfigError, match=f"num_points is {number}"):
        built(RepPointsHeadConfig(num_points=number))


@pytest.mark.parametrize(
    ("mmdet_config", "head", "backbone"),
    [
        ("bbox_r50_fpn-gn_head-gn-grid_1x", {"transform_method": "minmax", "use_grid_points": True}, {}),
        ("partial-minmax_r50_fpn-gn_head-gn_1x", {"transform_method": "partial_minmax"}, {}),
        (
            "moment_r101-dconv-c3-c5_fpn-gn_head-gn_2x",
            {},
            {"depth": 101, "dcn": DCNConfig(), "stage_with_dcn": (False, True, True, True)},
        ),
    ],
)
def test_the_variants_have_mmdetections_parameters(
    mmdet_config: str, head: dict[str, Any], backbone: dict[str, Any]
) -> None:
    model = reppoints.Model(
        backbone=ResNetConfig(**backbone), bbox_head=RepPointsHeadConfig(norm_cfg=GNConfig(), **head)
    )
    zoo.check_state_dict(f"reppoints/reppoints-{mmdet_config}_coco.py", model)
