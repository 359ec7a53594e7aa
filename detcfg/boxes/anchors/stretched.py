"""Anchors and points as torchvision's detectors lay them: spread over the image, of whole pixels.

The step from one place to the next is the image's size over the feature map's, rounded down. On coarse
maps, which reach beyond the image, that is less than the stride, and not the same in x and in y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.config import ConfigError, is_unset

Size = tuple[int, int]


@frozen(kw_only=True)
class StretchedAnchorGeneratorConfig(AnchorGeneratorConfig):
    """Anchors of given sizes for each level, whose corners are rounded to whole pixels.

    Follows torchvision/models/detection/anchor_utils.py. An anchor of size s and ratio r is
    s / sqrt(r) wide and s * sqrt(r) high.
    """

    sizes: tuple[tuple[int, ...], ...]
    """Square roots of areas on each level, in pixels."""
    scales: tuple[float, ...] | None = (1.0,)
    """Not used."""

    def wired(self) -> Self:
        wired = super().wired()
        if not is_unset(self.strides) and len(self.sizes) != len(self.strides):
            raise ConfigError(f"sizes is {self.sizes} and strides is {self.strides}; they differ in length.")
        if len({len(level) for level in self.sizes}) != 1:
            raise ConfigError(f"sizes is {self.sizes}; a head predicts as many anchors on every level.")
        return wired

    @property
    def num_base_priors(self) -> tuple[int, ...]:
        return tuple(len(level) * len(self.ratios) for level in self.sizes)

    def base_anchors(self, level: int) -> Tensor:
        root = torch.tensor(self.ratios, dtype=torch.float32, device="cpu").sqrt()
        size = torch.tensor(self.sizes[level], dtype=torch.float32, device="cpu")
        width, height = ((1 / root)[:, None] * size).reshape(-1), (root[:, None] * size).reshape(-1)
        return (torch.stack([-width, -height, width, height], dim=1) / 2).round()

    def grid_priors(
        self,
        featmap_sizes: Sequence[Size],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        for level, grid in enumerate(_grids(featmap_sizes, self.strides, device, dtype)):
            base = self.base_anchors(level).to(grid, non_blocking=True)
            found.append((grid.repeat(1, 2)[:, None] + base).reshape(-1, 4))
        return tuple(found)


@frozen(kw_only=True)
class StretchedPointGeneratorConfig(MlvlPointGeneratorConfig):
    """The centres of such anchors."""

    offset: float = 0.0
    """Not used."""

    def grid_priors(
        self,
        featmap_sizes: Sequence[Size],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, ...]:
        return tuple(_grids(featmap_sizes, self.strides, device, dtype))


def _grids(
    featmap_sizes: Sequence[Size], strides: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> list[Tensor]:
    """For each feature map the places (height * width, 2) = (x, y), row by row."""
    # The finest map divides the padded image evenly.
    image = [length * strides[0] for length in featmap_sizes[0]]
    grids: list[Tensor] = []
    for height, width in featmap_sizes:
        y = torch.arange(height, device=device) * (image[0] // height)
        x = torch.arange(width, device=device) * (image[1] // width)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        grids.append(torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(dtype))
    return grids
