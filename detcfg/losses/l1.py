"""L1 loss."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class L1LossConfig(LossConfig):
    """The absolute error. Follows mmdet/models/losses/smooth_l1_loss.py."""

    def build(self) -> Loss:
        return Loss(self.resolved(), l1_loss)


def l1_loss(pred: Tensor, target: Tensor) -> Tensor:
    """|pred - target| of each element."""
    return (pred - target).abs()
