"""Anchors and points as torchvision's detectors lay them: spread over the image, of whole pixels.

The step from one location to the next is the image's size over the feature map's, rounded down. On coarse
maps, which reach beyond the image, that is less than the stride, and not the same in x and in y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig, check_one_per_level
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.config import ConfigError, check_unused
from detcfg.config.ranges import Fraction, NonEmpty, PositiveFloat, PositiveInt

Size = tuple[int, int]

_REPLACED: Final = (
    *("scales", "octave_base_scale", "scales_per_octave", "base_sizes", "scale_major"),
    *("centers", "center_offset"),
)
"""Fields of `AnchorGeneratorConfig` that say what `sizes` and the image's size say here."""


@frozen(kw_only=True)
class StretchedAnchorGeneratorConfig(AnchorGeneratorConfig):
    """Anchors of given sizes for each level, whose corners are rounded to whole pixels.

    Follows torchvision/models/detection/anchor_utils.py. An anchor of size s and ratio r is
    s / sqrt(r) wide and s * sqrt(r) high, and is centred on its location. `sizes` takes the place of scales,
    octaves, base sizes and centres: those have no effect, and a value of theirs is an error.
    """

    sizes: NonEmpty[NonEmpty[PositiveInt]]
    """Square roots of areas on each level, in pixels."""
    scales: NonEmpty[PositiveFloat] | None = (1.0,)
    """1: `sizes` are what is to be given."""

    def wired(self) -> Self:
        reason = "sizes (square roots of areas, in pixels) and ratios shape the anchors, which the image's size spreads"
        check_unused(self, f"{reason}; AnchorGeneratorConfig goes by scales", *_REPLACED)
        check_one_per_level(self, "strides", "sizes")
        wired = super().wired()
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
        priors: list[Tensor] = []
        for level, grid in enumerate(_grids(featmap_sizes, self.strides, device, dtype)):
            base = self.base_anchors(level).to(grid, non_blocking=True)
            priors.append((grid.repeat(1, 2)[:, None] + base).reshape(-1, 4))
        return tuple(priors)


@frozen(kw_only=True)
class StretchedPointGeneratorConfig(MlvlPointGeneratorConfig):
    """The centres of the anchors of `StretchedAnchorGeneratorConfig`."""

    offset: Fraction = 0.0
    """0: the first point is at (0, 0), and the image's size says where the others are."""

    def wired(self) -> Self:
        check_unused(
            self,
            "the image's size spreads the points; MlvlPointGeneratorConfig has points at a share of the stride",
            "offset",
        )
        return super().wired()

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
    """For each feature map its locations (height * width, 2) = (x, y) in pixels, row by row."""
    # The finest map divides the padded image evenly.
    image = [length * strides[0] for length in featmap_sizes[0]]
    grids: list[Tensor] = []
    for height, width in featmap_sizes:
        y = torch.arange(height, device=device) * (image[0] // height)
        x = torch.arange(width, device=device) * (image[1] // width)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        grids.append(torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(dtype))
    return grids
