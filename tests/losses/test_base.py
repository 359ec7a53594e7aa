"""What every loss does: weighting, reduction, and the guard for a process without elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from detcfg.losses import reduce as reduced
from detcfg.losses.base import LossConfig, empty_loss, reduce_loss
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.seesaw import SeesawLossConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

LOSS = torch.tensor([[1.0, 2.0], [3.0, 6.0]])


def test_reductions_agree_with_their_definitions() -> None:
    weight = torch.tensor([[1.0, 0.0], [2.0, 0.5]])

    assert torch.equal(LOSS * weight, reduce_loss(LOSS, weight, "none"))
    assert reduce_loss(LOSS, weight, "sum") == 10
    assert reduce_loss(LOSS, weight, "mean") == 10 / 4  # all elements, whatever their weight
    assert reduce_loss(LOSS, weight, "mean", avg_factor=2) == 10 / 2


def test_no_positive_does_not_divide_by_zero() -> None:
    assert reduce_loss(torch.zeros(3), avg_factor=0) == 0


def test_a_sum_has_no_divisor_to_replace() -> None:
    with pytest.raises(ValueError, match='avg_factor does not go with reduction="sum"'):
        reduce_loss(LOSS, reduction="sum", avg_factor=2)


def test_weights_of_each_coordinate_weight_a_loss_of_each_box_by_their_mean() -> None:
    boxes, targets = torch.tensor([[0.0, 0, 4, 4]] * 2), torch.tensor([[0.0, 0, 4, 2]] * 2)
    weight = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])

    loss = GIoULossConfig(loss_weight=3.0).build()(boxes, targets, weight, reduction_override="none")

    torch.testing.assert_close(torch.tensor([1.0, 0.5]) * 3 * 0.5, loss)  # the IoU is a half


def test_weights_of_each_prediction_weight_all_of_its_classes() -> None:
    pred, labels = torch.randn(3, 4), torch.tensor([0, 4, 2])  # 4 is background
    focal = FocalLossConfig().build()
    apart = focal(pred, labels, reduction_override="none")

    weighted = focal(pred, labels, torch.tensor([1.0, 0.0, 2.0]), reduction_override="none")

    torch.testing.assert_close(apart * torch.tensor([[1.0], [0.0], [2.0]]), weighted)


@pytest.fixture
def collectives(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """What is reduced over the processes of a group, in turn. The group is of this process alone."""
    calls: list[Tensor] = []
    all_reduce: Any = dist.all_reduce

    def counted(tensor: Tensor, *args: Any) -> Any:
        calls.append(tensor.clone())
        return all_reduce(tensor, *args)

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(reduced.dist, "all_reduce", counted)
    yield calls
    dist.destroy_process_group()


SIGMOID = CrossEntropyLossConfig(use_sigmoid=True)
CASES = (
    (L1LossConfig(), torch.zeros(2, 4), torch.ones(2, 4)),
    (GIoULossConfig(), torch.tensor([[0.0, 0, 4, 4]] * 2), torch.tensor([[0.0, 0, 4, 2]] * 2)),
    (FocalLossConfig(), torch.zeros(2, 3), torch.tensor([0, 3])),
    (CrossEntropyLossConfig(), torch.zeros(2, 4), torch.tensor([0, 3])),
    (CrossEntropyLossConfig(avg_non_ignore=True, ignore_index=3), torch.zeros(2, 4), torch.tensor([0, 3])),
    (SIGMOID, torch.zeros(2, 3), torch.tensor([0, 3])),
    (SeesawLossConfig(num_classes=3), torch.zeros(2, 5), torch.tensor([0, 3])),
)


@pytest.mark.parametrize("avg_factor", [None, 2.0])
@pytest.mark.parametrize(("config", "pred", "target"), CASES, ids=lambda case: type(case).__name__)
def test_a_process_without_elements_takes_part_in_each_collective_operation(
    collectives: list[Tensor], config: LossConfig, pred: Tensor, target: Tensor, avg_factor: float | None
) -> None:
    """Otherwise the processes that have elements would wait for it for ever."""
    loss = config.build()
    loss(pred, target, avg_factor=avg_factor)
    with_elements = len(collectives)
    nothing = pred[:0].clone().requires_grad_()
    value = loss(nothing, target[:0], avg_factor=None if avg_factor is None else 0.0)

    assert with_elements >= 1
    assert len(collectives) == 2 * with_elements
    assert value == 0
    value.backward()  # the gradient is there, though it is empty: DDP waits for it
    assert nothing.grad is not None


def test_seesaw_takes_part_where_all_elements_are_background(collectives: list[Tensor]) -> None:
    loss = SeesawLossConfig(num_classes=3).build()
    pred = torch.randn(2, 5, requires_grad=True)
    loss(pred, torch.tensor([0, 3]), avg_factor=2.0)
    with_objects = len(collectives)
    classes = loss.named(pred, torch.tensor([3, 3]), avg_factor=2.0)["loss_cls_classes"]
    classes.backward()

    assert len(collectives) == 2 * with_objects
    assert pred.grad is not None
    assert torch.equal(torch.zeros(2, 5), pred.grad)


def test_a_sum_asks_for_no_divisor(collectives: list[Tensor]) -> None:
    assert empty_loss(torch.zeros(0, 4), "sum") == 0
    assert not collectives
