"""Boxes as distances from a point to their four sides."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.geometry import clip_boxes, side_distances


@frozen(kw_only=True)
class DistancePointBBoxCoderConfig(BBoxCoderConfig):
    """Distances (left, top, right, bottom) from a point, in pixels or strides (FCOS, Tian et al., 2019).

    https://arxiv.org/abs/1904.01355. Follows
    mmdet/models/task_modules/coders/distance_point_bbox_coder.py.
    """

    clip_border: bool = True
    """Whether decoded boxes are clipped to the image."""

    def encode(self, priors: Tensor, boxes: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
        """The distances (..., 4) from points (..., 2) to the sides of boxes (..., 4).

        With `max_dis` they are clamped to between 0 and `max_dis` - `eps`.
        """
        distances = side_distances(priors, boxes)
        return distances if max_dis is None else distances.clamp(0, max_dis - eps)

    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (..., 4) whose sides have the distances `pred` (..., 4) from points (..., 2)."""
        boxes = torch.cat([priors - pred[..., :2], priors + pred[..., 2:]], dim=-1)
        return boxes if max_shape is None or not self.clip_border else clip_boxes(boxes, max_shape)
