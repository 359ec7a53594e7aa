"""Targets of the location scores of heads with guided anchors.

Shapes: B images; A locations over all levels; N ground-truth objects of one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detcfg.boxes.assigners.region import object_levels, painted

BACKGROUND_WEIGHT = 0.1
"""Weight of the locations that are far from objects, as most are."""


def location_targets(
    boxes: Sequence[Tensor],
    featmap_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    *,
    anchor_scale: float,
    center_ratio: float,
    ignore_ratio: float,
) -> tuple[Tensor, Tensor]:
    """Which locations lie in the central region of an object that suits their level, and how much each counts.

    Locations around that region do not count, and neither do those around it on the next levels. Follows
    `ga_loc_targets` in mmdet/models/dense_heads/guided_anchor_head.py.

    Args:
        boxes: (N, 4) of each image, in pixels.
        featmap_sizes: (height, width) of each level.
        strides: Of each level.
        anchor_scale: The anchors' side over the stride.
        center_ratio: Size of an object's central region over its own.
        ignore_ratio: Size of the region beyond which locations are background.

    Returns:
        (B, A) bool and (B, A) float.
    """
    centres: list[Tensor] = []
    weights: list[Tensor] = []
    for objects in boxes:
        levels = object_levels(objects, anchor_scale * strides[0], len(strides))
        for level, (size, stride) in enumerate(zip(featmap_sizes, strides, strict=True)):
            said, beside = painted(
                _cells(size, objects),
                objects / stride,
                levels - level,
                size,
                center_ratio=center_ratio,
                ignore_ratio=ignore_ratio,
            )
            central = (said >= 0) & (said % 2 == 1)
            far = (said < 0) & ~beside
            centres.append(central)
            weights.append(central.to(objects) + BACKGROUND_WEIGHT * far.to(objects))
    shape = (len(boxes), -1)
    return torch.cat(centres).view(shape), torch.cat(weights).view(shape)


def _cells(size: tuple[int, int], like: Tensor) -> Tensor:
    """(height * width, 2): x and y of each cell."""
    y, x = (torch.arange(n, device=like.device, dtype=like.dtype) for n in size)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)
