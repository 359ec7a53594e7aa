"""A point at every location of every feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import frozen

from detcfg.config import Config, derived
from detcfg.config.ranges import Fraction, NonEmpty, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@frozen(kw_only=True)
class MlvlPointGeneratorConfig(Config):
    """Points (x, y) in network pixels, row by row (mmdet/models/task_modules/prior_generators)."""

    strides: NonEmpty[PositiveInt] = derived()
    """Stride of each feature map."""
    offset: Fraction = 0.5
    """Where a point lies between its location and the next, as a share of the stride: 0.5 is the cell's centre."""

    @property
    def num_base_priors(self) -> tuple[int, ...]:
        """Points at each location of each level."""
        return (1,) * len(self.strides)

    def grid_priors(
        self,
        featmap_sizes: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, ...]:
        """For each feature map of (height, width) its points (height * width, 2)."""
        return tuple(
            _grid(size, stride, self.offset, torch.device(device), dtype)
            for size, stride in zip(featmap_sizes, self.strides, strict=True)
        )

    def valid_flags(
        self,
        featmap_sizes: Sequence[tuple[int, int]],
        pad_shape: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, ...]:
        """For each level (height * width,) bool: points whose location is within the image's `pad_shape`."""
        return tuple(
            _inside(size, pad_shape, stride, torch.device(device))
            for size, stride in zip(featmap_sizes, self.strides, strict=True)
        )


def _grid(
    size: tuple[int, int], stride: int, offset: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    height, width = size
    x = ((torch.arange(width, device=device) + offset) * stride).to(dtype)
    y = ((torch.arange(height, device=device) + offset) * stride).to(dtype)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns.reshape(-1), rows.reshape(-1)], dim=-1)


def _inside(size: tuple[int, int], pad_shape: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    height, width = size
    rows = torch.arange(height, device=device) < -(-pad_shape[0] // stride)
    columns = torch.arange(width, device=device) < -(-pad_shape[1] // stride)
    return (rows[:, None] & columns).reshape(-1)
