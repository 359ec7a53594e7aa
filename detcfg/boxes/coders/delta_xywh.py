"""Boxes as shifts of centre and size."""

from __future__ import annotations

import math
from typing import Final

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.coders.base import BBoxCoderConfig, constant
from detcfg.boxes.geometry import boxes_around, centres, clip_boxes

MAX_LOG_RATIO: Final = abs(math.log(16 / 1000))
"""The most by which log width and log height may change, so that exp cannot overflow."""


@frozen(kw_only=True)
class DeltaXYWHBBoxCoderConfig(BBoxCoderConfig):
    """(dx, dy, dw, dh) with dx = (x - px) / pw and dw = log(w / pw), p the prior, x and w the box.

    From R-CNN (Girshick et al., 2014, https://arxiv.org/abs/1311.2524). Follows
    mmdet/models/task_modules/coders/delta_xywh_bbox_coder.py.
    """

    target_means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Subtracted from the deltas."""
    target_stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """The deltas are divided by them."""
    clip_border: bool = True
    """Whether decoded boxes are kept within the image."""
    bound_shrinking: bool = True
    """Whether log width and log height are bounded below as above; torchvision bounds growth alone."""
    add_ctr_clamp: bool = False
    """Whether a decoded box's centre stays near the prior's (YOLOF)."""
    ctr_clamp: int = 32
    """How near, in pixels."""

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """The deltas (N, 4) from priors (N, 4) to boxes (N, 4)."""
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
        """The boxes that deltas lead to.

        Args:
            priors: (N, 4).
            pred: (N, 4), or (N, K * 4) for K boxes from each prior.
            max_shape: (height, width) of the image, to which boxes are clipped if `clip_border`.
            max_log_ratio: The most by which log width and log height may change.

        Returns:
            Boxes of the shape of `pred`.
        """
        deltas = torch.unflatten(pred, -1, (pred.shape[-1] // 4, 4))
        deltas = deltas * constant(self.target_stds, deltas) + constant(self.target_means, deltas)
        priors = priors.unsqueeze(-2)
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
        if self.clip_border and max_shape is not None:
            boxes = clip_boxes(boxes, max_shape)
        return boxes.reshape(pred.shape)
