"""Generalised IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

from functools import partial

from attrs import frozen
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class GIoULossConfig(LossConfig):
    """IoU less the empty share of the enclosing box (Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630).

    Follows mmdet/models/losses/iou_loss.py.
    """

    eps: PositiveFloat = 1e-6
    """The least union and enclosing area, in square pixels."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(giou_loss, eps=config.eps))


def giou_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-6) -> Tensor:
    """1 - IoU + (C - U) / C, (N,) in [0, 2]; C and U are the areas of enclosing box and union."""
    return 1 - bbox_overlaps(pred, target, mode="giou", is_aligned=True, eps=eps)
