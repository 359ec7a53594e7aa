"""Distance IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class DIoULossConfig(LossConfig):
    """IoU less the distance of the centres (Zheng et al., 2019, https://arxiv.org/abs/1911.08287).

    Follows mmdet/models/losses/iou_loss.py.
    """

    eps: PositiveFloat = 1e-6
    """Added to denominators, in square pixels."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(diou_loss, eps=config.eps))


def diou_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-6) -> Tensor:
    """1 - IoU + d^2 / c^2, (N,); d is the distance of the centres, c the enclosing box's diagonal."""
    return 1 - (aligned_iou(pred, target, eps) - centre_distance(pred, target, eps))


def aligned_iou(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """The IoU of each pair, (N,), with `eps` added to the union."""
    sides = (torch.min(pred[:, 2:], target[:, 2:]) - torch.max(pred[:, :2], target[:, :2])).clamp(min=0)
    overlap = sides.prod(dim=1)
    areas = (pred[:, 2:] - pred[:, :2]).prod(dim=1) + (target[:, 2:] - target[:, :2]).prod(dim=1)
    return overlap / (areas - overlap + eps)


def enclosing_size(pred: Tensor, target: Tensor) -> Tensor:
    """(N, 2): width and height of the smallest box around both."""
    return torch.max(pred[:, 2:], target[:, 2:]) - torch.min(pred[:, :2], target[:, :2])


def centre_distance(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """(N,): the centres' squared distance over the enclosing box's squared diagonal."""
    diagonal = enclosing_size(pred, target).clamp(min=0).square().sum(dim=1)
    twice = (target[:, :2] + target[:, 2:]) - (pred[:, :2] + pred[:, 2:])
    return twice.square().sum(dim=1) / 4 / (diagonal + eps)
