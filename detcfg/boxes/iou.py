"""Overlaps (IoU and its kin) of boxes (x1, y1, x2, y2). M and N boxes, or N pairs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

OverlapMode = Literal["iou", "iof", "giou"]


def box_areas(boxes: Tensor) -> Tensor:
    """(..., 4) boxes to their areas (...) in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def bbox_overlaps(
    boxes1: Tensor,
    boxes2: Tensor,
    mode: OverlapMode = "iou",
    *,
    is_aligned: bool = False,
    eps: float = 1e-6,
) -> Tensor:
    """Intersection over union of each of `boxes1` with each of `boxes2`.

    Args:
        boxes1: (M, 4).
        boxes2: (N, 4).
        mode: "iou"; "iof", intersection over foreground, the area of `boxes1`; or "giou" (Rezatofighi et al.,
            2019, https://arxiv.org/abs/1902.09630), which is the IoU less the share of the enclosing box that
            neither fills.
        is_aligned: Compare pairs, so that M equals N.
        eps: The least area to divide by, in square pixels, so that boxes without area give 0.

    Returns:
        (M, N), or (N,) if `is_aligned`.

    Follows mmdet/structures/bbox/bbox_overlaps.py.
    """
    # Half precision holds neither the areas nor their small differences.
    boxes1, boxes2 = _at_least_float(boxes1), _at_least_float(boxes2)
    if not is_aligned:
        boxes1, boxes2 = boxes1[:, None], boxes2[None]
    x1, y1, x2, y2 = boxes1.unbind(-1)
    other_x1, other_y1, other_x2, other_y2 = boxes2.unbind(-1)

    # Side by side rather than stacked: half the memory of (M, N, 2).
    width = (torch.minimum(x2, other_x2) - torch.maximum(x1, other_x1)).clamp(min=0)
    height = (torch.minimum(y2, other_y2) - torch.maximum(y1, other_y1)).clamp(min=0)
    intersection = width * height
    area = box_areas(boxes1)
    union = area if mode == "iof" else area + box_areas(boxes2) - intersection
    overlap = intersection / union.clamp(min=eps)
    if mode != "giou":
        return overlap

    hull = (torch.maximum(x2, other_x2) - torch.minimum(x1, other_x1)).clamp(min=0) * (
        torch.maximum(y2, other_y2) - torch.minimum(y1, other_y1)
    ).clamp(min=0)
    hull = hull.clamp(min=eps)
    return overlap - (hull - union.clamp(min=eps)) / hull


def _at_least_float(boxes: Tensor) -> Tensor:
    return boxes if boxes.dtype == torch.float64 else boxes.float()
