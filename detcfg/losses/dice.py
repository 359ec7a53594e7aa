"""Dice loss. N masks of any shape."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class DiceLossConfig(LossConfig):
    """1 minus the overlap of two masks (Milletari et al., 2016, https://arxiv.org/abs/1606.04797).

    Follows mmdet/models/losses/dice_loss.py.
    """

    use_sigmoid: Literal[True] = True
    """The activation is a sigmoid."""
    activate: bool = True
    """Whether predictions are logits; else probabilities."""
    naive_dice: bool = False
    """Whether the denominator sums the masks; else their squares."""
    eps: NonNegativeFloat = 1e-3
    """Keeps a divisor from zero."""

    def build(self) -> DiceLoss:
        return DiceLoss(self.resolved())


class DiceLoss(Loss):
    """`loss(pred, target)`: (N, ...) against (N, ...) in [0, 1]; a weight is (N,)."""

    def __init__(self, config: DiceLossConfig) -> None:
        super().__init__(config)
        self.activate = config.activate
        self.naive_dice = config.naive_dice
        self.eps = config.eps

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        pred = pred.sigmoid() if self.activate else pred
        return dice_loss(pred, target, eps=self.eps, naive_dice=self.naive_dice)


def dice_loss(pred: Tensor, target: Tensor, *, eps: float, naive_dice: bool = False) -> Tensor:
    """1 - 2 |A B| / (|A| + |B|), (N,), where |.| sums the squares, or the values if `naive_dice`."""
    pred, target = pred.flatten(1), target.flatten(1).float()
    shared = (pred * target).sum(1)
    if naive_dice:
        return 1 - (2 * shared + eps) / (pred.sum(1) + target.sum(1) + eps)
    return 1 - 2 * shared / ((pred.square().sum(1) + eps) + (target.square().sum(1) + eps))
