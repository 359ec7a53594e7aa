"""The losses that compare boxes: IoU, bounded IoU, GIoU, DIoU, CIoU, EIoU, SIoU."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, tensor

from detcfg.losses.base import LossConfig
from detcfg.losses.bounded_iou import BoundedIoULossConfig
from detcfg.losses.ciou import CIoULossConfig
from detcfg.losses.diou import DIoULossConfig
from detcfg.losses.eiou import EIoULossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.iou import IoULossConfig
from detcfg.losses.siou import SIoULossConfig

CONFIGS: tuple[LossConfig, ...] = (
    IoULossConfig(),
    IoULossConfig(mode="linear"),
    IoULossConfig(mode="square"),
    BoundedIoULossConfig(),
    GIoULossConfig(),
    DIoULossConfig(),
    CIoULossConfig(),
    EIoULossConfig(),
    SIoULossConfig(),
)

# Two boxes of 4 x 2 = 8 square pixels that share 2 x 2 = 4; together they span 6 x 2.
PRED = tensor([[0.0, 0.0, 4.0, 2.0]])
TARGET = tensor([[2.0, 0.0, 6.0, 2.0]])


def boxes_of(draw: st.DataObject) -> Tensor:
    side = st.floats(0.5, 500)
    x, y, w, h = (
        (draw.draw(st.floats(-100, 100))),
        draw.draw(st.floats(-100, 100)),
        draw.draw(side),
        draw.draw(side),
    )
    return tensor([[x, y, x + w, y + h]])


@pytest.mark.parametrize(("mode", "expected"), [("linear", 2 / 3), ("square", 8 / 9), ("log", math.log(3))])
def test_iou_loss_is_what_the_iou_lacks(mode: str, expected: float) -> None:
    loss = IoULossConfig(mode=mode).build()  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    torch.testing.assert_close(loss(PRED, TARGET), tensor(expected))


def test_giou_loss_minds_the_empty_part_of_the_enclosing_box() -> None:
    apart = tensor([[6.0, 0.0, 8.0, 2.0]])  # enclosing 8 x 2 = 16, union 8 + 4 = 12

    torch.testing.assert_close(GIoULossConfig().build()(PRED, apart), tensor(1 + 4 / 16))


def test_diou_loss_adds_the_distance_of_the_centres() -> None:
    torch.testing.assert_close(
        DIoULossConfig().build()(PRED, TARGET), tensor(1 - 1 / 3 + 2**2 / (6**2 + 2**2))
    )


def test_ciou_loss_is_the_diou_loss_where_shapes_agree() -> None:
    torch.testing.assert_close(CIoULossConfig().build()(PRED, TARGET), DIoULossConfig().build()(PRED, TARGET))


def test_ciou_loss_adds_the_difference_of_shapes_where_boxes_overlap_well() -> None:
    target = tensor([[0.0, 0.0, 4.0, 3.0]])  # the centre is half a pixel lower, the IoU 8 / 12

    v = 4 / math.pi**2 * (math.atan(4 / 3) - math.atan(4 / 2)) ** 2
    expected = 1 - 2 / 3 + 0.25 / 25 + v / (1 - 2 / 3 + v) * v
    torch.testing.assert_close(CIoULossConfig().build()(PRED, target), tensor(expected))


def test_bounded_iou_loss_is_its_equation() -> None:
    loss = BoundedIoULossConfig(beta=0.2, eps=0, reduction="none").build()

    dx = 1 - (4 - 2 * 2) / (4 + 2 * 2)
    torch.testing.assert_close(loss(PRED, TARGET), tensor([[dx - 0.1, 0, 0, 0]]))


def test_eiou_loss_still_pulls_boxes_that_do_not_meet() -> None:
    pred = tensor([[0.0, 0.0, 2.0, 2.0]], requires_grad=True)

    EIoULossConfig().build()(pred, tensor([[5.0, 5.0, 7.0, 7.0]])).backward()

    assert pred.grad is not None
    assert (pred.grad != 0).any()


def test_siou_loss_of_a_shift_along_one_axis() -> None:
    # No angle cost, so gamma is 2; the shift is 2 of the enclosing 6.
    distance = 2 - math.exp(2 * (2 / 6) ** 2) - 1
    torch.testing.assert_close(
        SIoULossConfig().build()(PRED, TARGET), tensor(1 - (1 / 3 - 0.5 * distance)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
@given(data=st.data())
def test_equal_boxes_cost_nothing_and_have_finite_gradients(config: LossConfig, data: st.DataObject) -> None:
    target = boxes_of(data)
    pred = target.clone().requires_grad_()

    value = config.build()(pred, target)
    value.backward()

    assert value.abs() < 0.02
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
@given(data=st.data())
def test_no_boxes_are_worth_less_than_equal_ones(config: LossConfig, data: st.DataObject) -> None:
    pred, target = boxes_of(data), boxes_of(data)
    loss = config.build()

    assert loss(pred, target) >= loss(target, target) - 1e-3


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_no_boxes_are_no_loss_but_keep_the_graph(config: LossConfig) -> None:
    pred = torch.zeros(0, 4, requires_grad=True)

    value = config.build()(pred, torch.zeros(0, 4), avg_factor=1.0)
    value.backward()

    assert value == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_a_weight_for_each_side_is_one_for_the_box(config: LossConfig) -> None:
    pred = tensor([[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 9.0]])
    target = tensor([[2.0, 0.0, 6.0, 2.0], [0.0, 1.0, 3.0, 8.0]])
    loss = config.build()

    each = loss(pred, target, tensor([[2.0] * 4, [0.0] * 4]), avg_factor=1.0)

    torch.testing.assert_close(each, 2 * loss(pred[:1], target[:1], avg_factor=1.0))
