"""Coordinates as feature maps (CoordConv)."""

from __future__ import annotations

import torch
from torch import Tensor


def coordinate_maps(features: Tensor) -> Tensor:
    """x and y of each cell of (B, C, H, W), from -1 at one border to 1 at the other: (B, 2, H, W).

    Follows `generate_coordinate` in mmdet/models/utils/misc.py.
    """
    height, width = features.shape[-2:]
    x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
    y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((columns, rows)).expand(len(features), -1, -1, -1)


def with_coordinates(features: Tensor) -> Tensor:
    """(B, C, H, W) with its coordinate maps behind: (B, C + 2, H, W)."""
    return torch.cat((features, coordinate_maps(features)), dim=1)
