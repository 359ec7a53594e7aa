"""Box arithmetic without weights: centres, distances to sides, scaling and clipping.

Shapes: N boxes as xyxy in pixels, A points as (x, y).
"""

from __future__ import annotations

import torch
from torch import Tensor


def centres(boxes: Tensor) -> Tensor:
    """The centres (..., 2) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def boxes_around(centre: Tensor, half_size: Tensor) -> Tensor:
    """The boxes (..., 4) around centres (..., 2), of half widths and half heights (..., 2) or (..., 1)."""
    return torch.cat([centre - half_size, centre + half_size], dim=-1)


def side_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """(..., 4): from points (..., 2) left, up, right and down to the sides of boxes (..., 4).

    The two broadcast: `side_distances(points[:, None], boxes)` is (A, N, 4). Below 0 is outside of a side.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def inside(points: Tensor, boxes: Tensor, margin: float = 0.01) -> Tensor:
    """(A, N) bool: whether each point (A, 2) lies further than `margin` pixels inside each box.

    The boxes are (N, 4), or (A, N, 4) where each point has its own.
    """
    return side_distances(points[:, None], boxes).amin(dim=-1) > margin


def scale_boxes(boxes: Tensor, scales: tuple[float, float]) -> Tensor:
    """The boxes (N, 4) with x and y multiplied by the two factors."""
    if scales == (1.0, 1.0):
        return boxes
    return torch.stack([boxes[:, 0::2] * scales[0], boxes[:, 1::2] * scales[1]], dim=-1).flatten(-2)


def clip_boxes(boxes: Tensor, max_shape: tuple[int, int]) -> Tensor:
    """The boxes (..., 4) within an image of (height, width)."""
    height, width = max_shape
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], dim=-1).flatten(-2)
