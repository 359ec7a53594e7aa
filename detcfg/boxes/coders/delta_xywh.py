"""Boxes as deltas of centre and size."""

from __future__ import annotations

import math
from typing import Final

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.coders.base import BBoxCoderConfig, constant
from detcfg.boxes.geometry import boxes_around, centres, clip_boxes
from detcfg.config.ranges import PositiveFloat, PositiveInt

MAX_LOG_RATIO: Final = abs(math.log(16 / 1000))
"""dw and dh are clamped to this: a decoded box is at most 62.5 times as large as its prior."""


@frozen(kw_only=True)
class DeltaXYWHBBoxCoderConfig(BBoxCoderConfig):
    """Deltas (dx, dy, dw, dh): dx = (x - px) / pw and dw = log(w / pw), from prior (px, pw) to box (x, w).

    From R-CNN (Girshick et al., 2014, https://arxiv.org/abs/1311.2524). Follows
    mmdet/models/task_modules/coders/delta_xywh_bbox_coder.py.
    """

    target_means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Subtracted from the deltas when boxes are encoded."""
    target_stds: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0, 1.0)
    """Deltas are divided by these when boxes are encoded, so that targets have about unit variance."""
    clip_border: bool = True
    """Whether decoded boxes are clipped to the image."""
    bound_shrinking: bool = True
    """Whether dw and dh are clamped from below as well as from above; torchvision clamps them from above alone."""
    add_ctr_clamp: bool = False
    """Whether dx * pw and dy * ph are clamped to `ctr_clamp` pixels, and dw and dh from above alone (YOLOF)."""
    ctr_clamp: PositiveInt = 32
    """The most by which a decoded box's centre may move, in pixels; with `add_ctr_clamp`."""

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """The deltas (N, 4) from priors (N, 4) to boxes (N, 4); infinite or NaN for one without area."""
        priors, boxes = priors.float(), boxes.float()
        size = priors[..., 2:] - priors[..., :2]
        shift = (centres(boxes) - centres(priors)) / size
        growth = torch.log((boxes[..., 2:] - boxes[..., :2]) / size)
        deltas = torch.cat([shift, growth], dim=-1)
        return (deltas - constant(self.target_means, deltas)) / constant(self.target_stds, deltas)

    def decode(
        self,
        priors: Tensor,
        pred: Tensor,
        max_shape: tuple[int, int] | None = None,
        max_log_ratio: float = MAX_LOG_RATIO,
    ) -> Tensor:
        """The boxes that predicted deltas make of priors.

        Args:
            priors: (N, 4).
            pred: (N, 4).
            max_shape: (height, width) of the image, to which boxes are clipped if `clip_border`.
            max_log_ratio: dw and dh are clamped to this, so that exp cannot overflow.

        Returns:
            Boxes (N, 4).
        """
        deltas = pred * constant(self.target_stds, pred) + constant(self.target_means, pred)
        size = priors[..., 2:] - priors[..., :2]
        shift, growth = size * deltas[..., :2], deltas[..., 2:]
        if self.add_ctr_clamp:
            shift = shift.clamp(-self.ctr_clamp, self.ctr_clamp)
            growth = growth.clamp(max=max_log_ratio)
        else:
            growth = growth.clamp(-max_log_ratio if self.bound_shrinking else None, max_log_ratio)
        center = centres(priors) + shift
        half = size * growth.exp() * 0.5
        boxes = boxes_around(center, half)
        return boxes if max_shape is None or not self.clip_border else clip_boxes(boxes, max_shape)
