"""What dense heads do with the maps of several levels.

Shapes: B images; A predictions of one image, over all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def flatten_level(maps: Tensor, channels: int) -> Tensor:
    """(B, a * channels, H, W) to (B, H * W * a, channels), in the order of the anchors."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, channels)


def flatten_levels(levels: Sequence[Tensor], channels: int) -> Tensor:
    """Maps of all levels to (B, A, channels), one level after another."""
    return torch.cat([flatten_level(maps, channels) for maps in levels], dim=1)


def sizes_of(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each feature map."""
    return [(level.shape[-2], level.shape[-1]) for level in maps]


def per_level(values: Sequence[float], points: Sequence[Tensor]) -> Tensor:
    """(A,): one number for each level, repeated for each of its points (n_i, 2)."""
    return torch.cat(
        [level.new_full((len(level),), value) for value, level in zip(values, points, strict=True)]
    )


def geometric_mean(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(sigmoid(first) * sigmoid(second)), whose gradient is finite where that is 0."""
    return ((F.logsigmoid(first) + F.logsigmoid(second)) / 2).exp()
