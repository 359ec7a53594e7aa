"""Extended IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class EIoULossConfig(LossConfig):
    """An IoU that keeps a gradient where boxes do not meet (Peng and Yu, 2021, https://arxiv.org/abs/2105.08213).

    Follows mmdet/models/losses/iou_loss.py.
    """

    eps: PositiveFloat = 1e-6
    """Added to the union, in square pixels."""
    smooth_point: PositiveFloat = 0.1
    """Below it the loss is quadratic, above it linear."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(eiou_loss, smooth_point=config.smooth_point, eps=config.eps))


def eiou_loss(pred: Tensor, target: Tensor, *, smooth_point: float = 0.1, eps: float = 1e-6) -> Tensor:
    """A smooth L1 of 1 - I / U, (N,), where the intersection I is negative for boxes that do not meet."""
    outer = torch.min(pred[:, :2], target[:, :2])
    first = torch.max(pred[:, :2], target[:, :2])
    last = torch.min(pred[:, 2:], target[:, 2:])
    low, high = torch.min(first, last) - outer, torch.max(first, last) - outer
    first, last = first - outer, last - outer
    # The area up to the far corner, less the two strips; the corner in both strips counts once.
    intersection = (
        last[:, 0] * last[:, 1] + low[:, 0] * low[:, 1] - first[:, 0] * high[:, 1] - high[:, 0] * first[:, 1]
    )
    areas = (pred[:, 2:] - pred[:, :2]).prod(dim=1) + (target[:, 2:] - target[:, :2]).prod(dim=1)
    missing = 1 - intersection / (areas - intersection + eps)
    return torch.where(
        missing < smooth_point, 0.5 * missing.square() / smooth_point, missing - 0.5 * smooth_point
    )
