"""Smooth L1 loss."""

from __future__ import annotations

from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class SmoothL1LossConfig(LossConfig):
    """L1, but quadratic near zero (Girshick, 2015, https://arxiv.org/abs/1504.08083).

    Follows mmdet/models/losses/smooth_l1_loss.py.
    """

    beta: PositiveFloat = 1.0
    """Errors below it count quadratically."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(smooth_l1_loss, beta=config.beta))


def smooth_l1_loss(pred: Tensor, target: Tensor, *, beta: float = 1.0) -> Tensor:
    """x^2 / (2 beta) below beta, x - beta / 2 above, where x = |pred - target|."""
    error = (pred - target).abs()
    return torch.where(error < beta, 0.5 * error * error / beta, error - 0.5 * beta)
