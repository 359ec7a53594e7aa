"""Box arithmetic without weights: centres, distances to sides, scaling and clipping.

Shapes: N boxes as xyxy in pixels, A points as (x, y).
"""

from __future__ import annotations

import torch
from torch import Tensor


def scale_boxes(boxes: Tensor, scales: tuple[float, float]) -> Tensor:
    """The boxes (N, 4) with x and y multiplied by the two factors."""
    if scales == (1.0, 1.0):
        return boxes
    return torch.stack([boxes[:, 0::2] * scales[0], boxes[:, 1::2] * scales[1]], dim=-1).flatten(-2)


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """(A, N, 4): from each point (A, 2) left, up, right and down to the sides of each box (N, 4)."""
    return torch.cat([points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]], dim=-1)


def centres(boxes: Tensor) -> Tensor:
    """(N, 4) boxes to their centres (N, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def inside(points: Tensor, boxes: Tensor, margin: float = 0.01) -> Tensor:
    """(A, N): whether each point (A, 2) is further than `margin` pixels inside each box (N, 4)."""
    before, after = points[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - points[:, None]
    return torch.cat([before, after], dim=-1).amin(dim=-1) > margin


def clip_boxes(boxes: Tensor, max_shape: tuple[int, int]) -> Tensor:
    """The boxes (..., 4) within an image of (height, width)."""
    height, width = max_shape
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)
