"""Complete IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

import math
from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig
from detcfg.losses.diou import aligned_iou, centre_distance


@frozen(kw_only=True)
class CIoULossConfig(LossConfig):
    """DIoU with a penalty of the aspect ratio (Zheng et al., 2020, https://arxiv.org/abs/2005.03572).

    Follows mmdet/models/losses/iou_loss.py.
    """

    eps: PositiveFloat = 1e-6
    """Added to denominators."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(ciou_loss, eps=config.eps))


def ciou_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-6) -> Tensor:
    """DIoU loss + a * v, (N,) in [0, 2].

    v = 4 / pi^2 * (difference of atan(width / height))^2, and a = v / (1 - IoU + v) where the
    IoU is above a half, else 0.
    """
    iou = aligned_iou(pred, target, eps)
    v = 4 / math.pi**2 * (_angle(target, eps) - _angle(pred, eps)).square()
    with torch.no_grad():
        trade_off = torch.where(iou > 0.5, v / (1 - iou + v), 0)
        trade_off = trade_off.nan_to_num(0)  # 0 / 0 where the boxes are equal
    return 1 - (iou - (centre_distance(pred, target, eps) + trade_off * v)).clamp(-1, 1)


def _angle(boxes: Tensor, eps: float) -> Tensor:
    return torch.atan((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1] + eps))
