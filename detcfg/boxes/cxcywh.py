"""Boxes as centre and size: (cx, cy, w, h), beside (x1, y1, x2, y2). Any leading dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh to xyxy; sizes below 0 count as 0."""
    half = boxes[..., 2:].clamp(min=0) / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def to_cxcywh(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to cxcywh.

    >>> to_cxcywh(torch.tensor([2.0, 0.0, 6.0, 10.0]))
    tensor([ 4.,  5.,  4., 10.])
    """
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def logit(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The inverse of the sigmoid, of numbers kept `eps` away from 0 and 1."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
