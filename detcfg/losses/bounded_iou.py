"""Bounded IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class BoundedIoULossConfig(LossConfig):
    """An upper bound of the IoU for each coordinate (Tychsen-Smith and Petersson, 2018, https://arxiv.org/abs/1711.00164).

    Follows mmdet/models/losses/iou_loss.py.
    """

    beta: NonNegativeFloat = 0.2
    """Below it the loss is quadratic, above it linear."""
    eps: NonNegativeFloat = 1e-3
    """Added to denominators, in pixels."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(bounded_iou_loss, beta=config.beta, eps=config.eps))


def bounded_iou_loss(pred: Tensor, target: Tensor, *, beta: float = 0.2, eps: float = 1e-3) -> Tensor:
    """The loss (N, 4) = (x, y, width, height) of boxes (N, 4) against boxes (N, 4).

    Each entry is a smooth L1 of 1 minus the best IoU that the coordinate still allows.
    """
    target = target.detach()
    size, target_size = pred[:, 2:] - pred[:, :2], target[:, 2:] - target[:, :2]
    shift = (target[:, :2] + target[:, 2:] - pred[:, :2] - pred[:, 2:]).abs()  # twice the centres' distance
    bound_centre = ((target_size - shift) / (target_size + shift + eps)).clamp(min=0)
    bound_size = torch.min(target_size / (size + eps), size / (target_size + eps))
    missing = 1 - torch.cat([bound_centre, bound_size], dim=1)
    return torch.where(missing < beta, 0.5 * missing * missing / beta, missing - 0.5 * beta)
