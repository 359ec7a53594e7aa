"""Whether feature maps have the channels and strides that a config declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor

CELLS: Final = 2
"""Convolutions without padding, and those that round up, make a map so many cells smaller or larger."""
SHARE: Final = 0.1
"""Many of them in a row make it smaller by up to this share; a wrong stride makes it half, or twice, as large."""


def difference(
    features: Sequence[Tensor], channels: tuple[int, ...], strides: tuple[int, ...], size: tuple[int, int]
) -> str:
    """What a config's figures and its maps differ in, as a sentence; empty if they agree.

    Args:
        features: (B, C, H, W) each.
        channels: Declared, of each map.
        strides: Declared, of each map.
        size: (height, width) of the image that the maps are of, in pixels.
    """
    if not len(features) == len(channels) == len(strides):
        return (
            f"it declares {len(channels)} maps by feature_channels {channels} and {len(strides)} by feature_strides "
            f"{strides}, and gives {len(features)}"
        )
    for index, (x, width, stride) in enumerate(zip(features, channels, strides, strict=True)):
        if x.ndim != 4:
            return f"its map {index} has the shape {tuple(x.shape)}, and should have (B, C, H, W)"
        if x.shape[1] != width:
            return f"feature_channels is {channels}, but its map {index} has {x.shape[1]} channels"
        if not all(_fits(cells, pixels / stride) for cells, pixels in zip(x.shape[2:], size, strict=True)):
            rows, columns = x.shape[2:]
            return (
                f"feature_strides is {strides}, but its map {index} of an image of {size[0]}x{size[1]} has "
                f"{rows}x{columns} cells: a stride of about {size[0] / max(rows, 1):.3g}x{size[1] / max(columns, 1):.3g}"
            )
    return ""


def _fits(cells: int, expected: float) -> bool:
    return abs(cells - expected) <= max(CELLS, SHARE * expected)
