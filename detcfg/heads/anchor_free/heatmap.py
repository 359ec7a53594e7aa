"""Gaussian heat maps of object centres.

Shapes: N ground-truth objects of one image; a map of K classes is (K, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_radius(sizes: Tensor, min_overlap: float) -> Tensor:
    """How far both corners of boxes may move and the IoU stays at least `min_overlap`: (N,) double.

    Args:
        sizes: (N, 2), the sides of the boxes.
        min_overlap: In (0, 1).

    The least of three radii r, each of which solves a quadratic equation, with w and h for the sides:
    one corner moves in and one out, (w - r)(h - r) = IoU (2wh - (w - r)(h - r)); both move in,
    (w - 2r)(h - 2r) = IoU wh; both move out, wh = IoU (w + 2r)(h + 2r). Follows
    mmdet/models/utils/gaussian_target.py.
    """
    sizes = sizes.double()
    total, area = sizes.sum(dim=-1), sizes.prod(dim=-1)

    def root(a: float, b: Tensor, c: Tensor, sign: int) -> Tensor:
        return (b + sign * (b.square() - 4 * a * c).clamp(min=0).sqrt()) / (2 * a)

    mixed = root(1, total, area * (1 - min_overlap) / (1 + min_overlap), -1)
    inwards = root(4, 2 * total, area * (1 - min_overlap), -1)
    outwards = root(4 * min_overlap, -2 * min_overlap * total, area * (min_overlap - 1), 1)
    return torch.stack((mixed, inwards, outwards)).amin(dim=0)


def draw_gaussians(
    centres: Tensor, radii: Tensor, labels: Tensor, num_classes: int, size: tuple[int, int]
) -> Tensor:
    """Heat (num_classes, *size): for each object a Gaussian of peak 1; where they overlap, the hotter.

    Args:
        centres: (N, 2) int64 = (x, y), cells of the map.
        radii: (N,) int64. A Gaussian ends that far from its centre; its sigma is a third of that.
        labels: (N,) int64.
        num_classes: K.
        size: (H, W).
    """
    heat = torch.zeros(num_classes, *size, device=centres.device)
    y = torch.arange(size[0], device=centres.device)[:, None] - centres[:, 1, None, None]  # (N, H, 1)
    x = torch.arange(size[1], device=centres.device) - centres[:, 0, None, None]  # (N, 1, W)
    reach = radii[:, None, None]
    sigma = (2 * reach + 1) / 6
    values = (-(x.square() + y.square()) / (2 * sigma.square())).exp()
    seen = (x.abs() <= reach) & (y.abs() <= reach) & (values >= torch.finfo(values.dtype).eps)
    rows = labels[:, None].expand(-1, size[0] * size[1])
    return heat.flatten(1).scatter_reduce(0, rows, (values * seen).flatten(1), "amax").view_as(heat)


def peaks(heat: Tensor, kernel: int) -> Tensor:
    """Heat (B, K, H, W) with 0 wherever a neighbour in a square of `kernel` cells is hotter."""
    highest = F.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    return heat * (highest == heat)
