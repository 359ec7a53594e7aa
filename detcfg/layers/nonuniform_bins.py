"""Distances to the sides of a box as distributions over bins that are finest around 0 (D-FINE).

Shapes: n + 1 bins, n = `reg_max`; boxes are (cx, cy, w, h).

From Peng et al., 2024, https://arxiv.org/abs/2410.13842; follows zoo/dfine/dfine_utils.py of Peterande/D-FINE.
"""

from __future__ import annotations

import torch
from torch import Tensor


def bin_values(reg_max: int, up: Tensor, reg_scale: Tensor) -> Tensor:
    """(n + 1,): the distance of each bin, in widths (or heights) / `reg_scale`; the outermost two are +- 2 * up * reg_scale.

    Args:
        reg_max: n, even.
        up: (1,), where the bins end.
        reg_scale: (1,), how much finer they are in the middle.
    """
    bound = up.abs() * reg_scale.abs()
    step = (bound + 1) ** (2 / (reg_max - 2))
    right = step ** torch.arange(1, reg_max // 2, device=up.device) - 1
    return torch.cat([-2 * bound, -right.flip(0), torch.zeros_like(bound), right, 2 * bound])


def by_side(corners: Tensor) -> Tensor:
    """(..., 4 * (n + 1)) to (..., 4, n + 1): the logits of left, top, right and bottom."""
    return corners.reshape(*corners.shape[:-1], 4, corners.shape[-1] // 4)


def expected(logits: Tensor, values: Tensor) -> Tensor:
    """(..., 4 * (n + 1)) logits to the mean distances (..., 4) of their distributions."""
    return by_side(logits).softmax(dim=-1) @ values


def moved(boxes: Tensor, distances: Tensor, reg_scale: Tensor) -> Tensor:
    """The boxes (..., 4) whose sides lie `distances` (..., 4) = (left, top, right, bottom) farther out."""
    unit = boxes[..., 2:] / reg_scale.abs()
    reach = 0.5 * reg_scale.abs() + distances
    low, high = boxes[..., :2] - reach[..., :2] * unit, boxes[..., :2] + reach[..., 2:] * unit
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def bin_targets(boxes: Tensor, targets: Tensor, values: Tensor, reg_scale: Tensor) -> Tensor:
    """What distributions around boxes (P, 4) have to be, that they reach targets (P, 4) = (x1, y1, x2, y2).

    Returns:
        (P, 4, 2) for each side: the bin to the left of the distance, and the weight of the next one in [0, 1]. Distances
        beyond the bins have all weight on the outermost.
    """
    scale = reg_scale.abs()
    unit = boxes[..., 2:] / scale + 1e-16
    out = torch.cat([boxes[..., :2] - targets[..., :2], targets[..., 2:] - boxes[..., :2]], dim=-1)
    distances = out / unit.repeat(1, 2) - 0.5 * scale
    last = len(values) - 1
    found = torch.searchsorted(values, distances.contiguous(), right=True) - 1
    left = found.clamp(0, last - 1)
    lower, upper = values[left], values[left + 1]
    weight = ((distances - lower) / (upper - lower)).clamp(0, 1)
    return torch.stack([left.to(weight), weight], dim=-1)
