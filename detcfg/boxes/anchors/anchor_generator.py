"""Anchor boxes of several scales and aspect ratios at every location of every feature map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Self, cast

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config import Config, ConfigError, derived, is_unset
from detcfg.config.ranges import Fraction, NonEmpty, PositiveFloat, PositiveInt


@frozen(kw_only=True)
class AnchorGeneratorConfig(Config):
    """Anchors (x1, y1, x2, y2) in network pixels, row by row, those of one location next to each other.

    An anchor of scale s and ratio r on a level of base size b is s * b / sqrt(r) wide and
    s * b * sqrt(r) high. Follows mmdet/models/task_modules/prior_generators/anchor_generator.py.

    Two ratios on a level of stride 8: boxes of 2 * 8 by 2 * 8 pixels and of the same area, half as wide as high
    and so on, centred on the locations (0, 0), (8, 0), ...

    >>> anchors = AnchorGeneratorConfig(strides=(8,), ratios=(1.0, 4.0), scales=(2.0,))
    >>> anchors.num_base_priors
    (2,)
    >>> anchors.base_anchors(0)
    tensor([[ -8.,  -8.,   8.,   8.],
            [ -4., -16.,   4.,  16.]])
    >>> (priors,) = anchors.grid_priors([(1, 2)])
    >>> priors
    tensor([[ -8.,  -8.,   8.,   8.],
            [ -4., -16.,   4.,  16.],
            [  0.,  -8.,  16.,   8.],
            [  4., -16.,  12.,  16.]])
    """

    strides: NonEmpty[PositiveInt] = derived()
    """Stride of each feature map."""
    ratios: NonEmpty[PositiveFloat] = (0.5, 1.0, 2.0)
    """Aspect ratios: height over width."""
    scales: NonEmpty[PositiveFloat] | None = None
    """Sizes in units of the base size. Give either these, or `octave_base_scale` and `scales_per_octave`."""
    octave_base_scale: PositiveFloat | None = None
    """The scale of the first octave; scales are this times 2^(i / scales_per_octave)."""
    scales_per_octave: PositiveInt | None = None
    """How many scales an octave has."""
    base_sizes: NonEmpty[PositiveFloat] | None = None
    """The base size of each level, in pixels. None: the strides."""
    scale_major: bool = True
    """Whether the anchors of one location come ratio by ratio, each in all scales, or scale by scale."""
    centers: tuple[tuple[float, float], ...] | None = None
    """The centre (x, y) of the anchors of the first location of each level, in pixels."""
    center_offset: Fraction = 0.0
    """The same centre, as a share of the base size."""

    def wired(self) -> Self:
        octave = (self.octave_base_scale, self.scales_per_octave)
        if (self.scales is None) == (None in octave):
            raise ConfigError(
                f"scales is {self.scales}, octave_base_scale {octave[0]} and scales_per_octave {octave[1]}; "
                "give either scales, or both of the others."
            )
        if self.centers is not None and self.center_offset != 0:
            raise ConfigError(f"centers goes without center_offset, which is {self.center_offset}.")
        check_one_per_level(self, "strides", "base_sizes", "centers")
        return self

    def check_single(self, name: str, owner: str) -> None:
        """Refuse several anchors at a location, for a head that predicts for one.

        Args:
            name: The owner's field that holds this config.
            owner: The head, as the message calls it.

        Raises:
            ConfigError: There are several.
        """
        if not is_unset(self.strides) and self.num_base_priors[0] != 1:
            raise ConfigError(
                f"{name} makes {self.num_base_priors[0]} anchors at each location; {owner} needs one. "
                "Give it one ratio and one scale."
            )

    @property
    def num_base_priors(self) -> tuple[int, ...]:
        """Anchors at each location of each level."""
        scales = self.scales_per_octave if self.scales is None else len(self.scales)
        return ((scales or 0) * len(self.ratios),) * len(self.strides)

    def base_anchors(self, level: int) -> Tensor:
        """(A, 4): the anchors of the first location of a level, on the CPU."""
        return torch.tensor(_base_anchors(self, level))

    def grid_priors(
        self,
        featmap_sizes: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, ...]:
        """The anchors of all levels.

        Args:
            featmap_sizes: (height, width) of each feature map.
            device: Of the anchors.
            dtype: Of the anchors.

        Returns:
            For each level (height * width * A, 4).
        """
        return tuple(
            self.level_priors(level, size, torch.device(device), dtype)
            for level, size in _each_level(self, featmap_sizes)
        )

    def valid_flags(
        self,
        featmap_sizes: Sequence[tuple[int, int]],
        pad_shape: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, ...]:
        """For each level (height * width * A,) bool: anchors whose location is within the image's `pad_shape`."""
        valid: list[Tensor] = []
        for level, (height, width) in _each_level(self, featmap_sizes):
            stride = self.strides[level]
            rows = torch.arange(height, device=device) < -(-pad_shape[0] // stride)
            columns = torch.arange(width, device=device) < -(-pad_shape[1] // stride)
            flags = (rows[:, None] & columns).reshape(-1, 1)
            valid.append(flags.expand(-1, self.num_base_priors[level]).reshape(-1))
        return tuple(valid)

    def level_priors(
        self,
        level: int,
        size: tuple[int, int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(height * width * A, 4): the anchors of one feature map of `size` = (height, width)."""
        base = self.base_anchors(level).to(device, dtype, non_blocking=True)
        x = torch.arange(size[1], device=device).to(dtype) * self.strides[level]
        y = torch.arange(size[0], device=device).to(dtype) * self.strides[level]
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([columns, rows, columns, rows], dim=-1).reshape(-1, 1, 4)
        return (base + shifts).reshape(-1, 4)


def _each_level(
    config: AnchorGeneratorConfig, featmap_sizes: Sequence[tuple[int, int]]
) -> list[tuple[int, tuple[int, int]]]:
    if len(featmap_sizes) != len(config.strides):
        raise ValueError(f"{len(featmap_sizes)} feature maps came, and strides is {config.strides}.")
    return list(enumerate(featmap_sizes))


# Numbers rather than tensors are kept: a tensor made in inference mode could not be trained with later.
@lru_cache(maxsize=256)
def _base_anchors(config: AnchorGeneratorConfig, level: int) -> list[list[float]]:
    cpu = torch.device("cpu")
    size = float(config.strides[level] if config.base_sizes is None else config.base_sizes[level])
    scales = config.scales
    if scales is None:
        base, count = config.octave_base_scale or 0.0, config.scales_per_octave or 0
        scales = tuple(2 ** (i / count) * base for i in range(count))
    scale = torch.tensor(scales, dtype=torch.float32, device=cpu)
    root = torch.tensor(config.ratios, dtype=torch.float32, device=cpu).sqrt()
    # Products in MMDetection's order, for equal rounding.
    if config.scale_major:
        width = (size * (1 / root)[:, None] * scale).reshape(-1)
        height = (size * root[:, None] * scale).reshape(-1)
    else:
        width = (size * scale[:, None] * (1 / root)).reshape(-1)
        height = (size * scale[:, None] * root).reshape(-1)
    offset = config.center_offset * size
    x, y = (offset, offset) if config.centers is None else config.centers[level]
    corners = [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height]
    return cast("list[list[float]]", torch.stack(corners, dim=-1).tolist())  # pyright: ignore[reportUnknownMemberType]


def check_one_per_level(config: Config, strides: str, *names: str) -> None:
    """Refuse fields that do not have one value for each level.

    Args:
        config: Whose fields they are.
        strides: The field that says how many levels there are; unset, it refuses nothing.
        names: The fields: tuples, or None.

    Raises:
        ConfigError: One of them and the strides differ in length.
    """
    levels: tuple[int, ...] = getattr(config, strides)
    for name in names:
        value: tuple[object, ...] | None = getattr(config, name)
        if value is not None and not is_unset(levels) and len(value) != len(levels):
            raise ConfigError(
                f"{name} is {value} and {strides} is {levels}; they differ in length. "
                f"Give {name} one value for each level."
            )


def inside_flags(anchors: Tensor, size: tuple[int, int], allowed_border: int) -> Tensor:
    """(A,) bool: which anchors (A, 4) reach at most `allowed_border` pixels beyond an image of (height, width)."""
    height, width = size
    return (
        (anchors[:, 0] >= -allowed_border)
        & (anchors[:, 1] >= -allowed_border)
        & (anchors[:, 2] < width + allowed_border)
        & (anchors[:, 3] < height + allowed_border)
    )
