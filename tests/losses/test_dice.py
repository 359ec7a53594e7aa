"""Dice loss."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from detcfg.losses.dice import DiceLossConfig


def test_equal_masks_cost_nothing() -> None:
    mask = torch.rand(2, 5, 5).round()

    for naive in (False, True):
        loss = DiceLossConfig(activate=False, naive_dice=naive).build()
        torch.testing.assert_close(loss(mask, mask), tensor(0.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("naive", "expected"), [(False, 1 - 2 * 0.5 / (0.5 + 1)), (True, 1 - 2 * 0.5 / (1 + 1))]
)
def test_dice_loss_is_its_equation(naive: bool, expected: float) -> None:  # noqa: FBT001
    loss = DiceLossConfig(activate=False, naive_dice=naive, eps=0).build()

    torch.testing.assert_close(loss(tensor([[0.5, 0.5]]), tensor([[1, 0]])), tensor(expected))


def test_logits_are_activated() -> None:
    logits, target = torch.randn(3, 4, 4), torch.rand(3, 4, 4).round()

    torch.testing.assert_close(
        DiceLossConfig().build()(logits, target),
        DiceLossConfig(activate=False).build()(logits.sigmoid(), target),
    )


def test_a_weight_counts_for_its_mask() -> None:
    loss = DiceLossConfig().build()
    logits, target = torch.randn(2, 4, 4), torch.rand(2, 4, 4).round()

    weighted = loss(logits, target, weight=tensor([0.0, 3.0]), avg_factor=1.0)

    torch.testing.assert_close(weighted, 3 * loss(logits[1:], target[1:]))
