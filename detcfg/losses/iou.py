"""IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

from functools import partial
from typing import Literal

from attrs import frozen
from torch import Tensor

from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig

IoUMode = Literal["linear", "square", "log"]


@frozen(kw_only=True)
class IoULossConfig(LossConfig):
    """A decreasing function of the IoU (Yu et al., 2016, https://arxiv.org/abs/1608.01471).

    Follows mmdet/models/losses/iou_loss.py.
    """

    mode: IoUMode = "log"
    """"log": -log(IoU); "linear": 1 - IoU; "square": 1 - IoU^2."""
    eps: PositiveFloat = 1e-6
    """The least IoU, where "log" would be infinite."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(iou_loss, mode=config.mode, eps=config.eps))


def iou_loss(pred: Tensor, target: Tensor, *, mode: IoUMode = "log", eps: float = 1e-6) -> Tensor:
    """The loss (N,) of boxes (N, 4) against boxes (N, 4)."""
    iou = bbox_overlaps(pred, target, is_aligned=True).clamp(min=eps)
    match mode:
        case "linear":
            return 1 - iou
        case "square":
            return 1 - iou**2
        case "log":
            return -iou.log()
