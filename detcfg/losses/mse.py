"""The squared error."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class MSELossConfig(LossConfig):
    """The squared error. Follows mmdet/models/losses/mse_loss.py."""

    def build(self) -> Loss:
        return Loss(self.resolved(), mse_loss)


def mse_loss(pred: Tensor, target: Tensor) -> Tensor:
    """(pred - target)^2 of each element."""
    return (pred - target).square()
