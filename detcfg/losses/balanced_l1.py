"""Balanced L1 loss."""

from __future__ import annotations

import math
from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat, PositiveFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class BalancedL1LossConfig(LossConfig):
    """Smooth L1 with larger gradients for small errors (Pang et al., 2019, https://arxiv.org/abs/1904.02701).

    Follows mmdet/models/losses/balanced_l1_loss.py.
    """

    alpha: PositiveFloat = 0.5
    """The smaller, the larger the gradients of small errors."""
    gamma: NonNegativeFloat = 1.5
    """The gradient of errors above beta."""
    beta: PositiveFloat = 1.0
    """Above it the loss is linear."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(
            config, partial(balanced_l1_loss, alpha=config.alpha, gamma=config.gamma, beta=config.beta)
        )


def balanced_l1_loss(
    pred: Tensor, target: Tensor, *, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0
) -> Tensor:
    """The loss of each element.

    With b = exp(gamma / alpha) - 1 and x = |pred - target|: a / b * (b x + 1) * ln(b x / beta + 1) - a x
    below beta, gamma x + gamma / b - alpha beta above.
    """
    error = (pred - target).abs()
    b = math.exp(gamma / alpha) - 1
    small = alpha / b * (b * error + 1) * torch.log(b * error / beta + 1) - alpha * error
    return torch.where(error < beta, small, gamma * error + gamma / b - alpha * beta)
