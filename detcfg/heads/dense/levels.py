"""What dense heads do with the maps of several levels.

Shapes: B images; A priors of one image, over all levels, n_i of level i.
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


def per_level(values: Sequence[float], priors: Sequence[Tensor]) -> Tensor:
    """(A,): one number for each level, repeated for each of its priors (n_i, ...)."""
    return torch.cat(
        [level.new_full((len(level),), value) for value, level in zip(values, priors, strict=True)]
    )


def level_of_each(priors: Sequence[Tensor]) -> Tensor:
    """(A,) int64: the level of each prior."""
    return per_level(range(len(priors)), priors).long()


def of_positives(values: Tensor, positive: Tensor) -> Tensor:
    """(P, ...): for each positive the value of its prior.

    Args:
        values: (A, ...), the same for every image, such as priors or strides.
        positive: (B, A) bool, of which P are true.
    """
    return values.expand(len(positive), *values.shape)[positive]


def geometric_mean(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(sigmoid(first) * sigmoid(second)), whose gradient is finite where that is 0."""
    return ((F.logsigmoid(first) + F.logsigmoid(second)) / 2).exp()
