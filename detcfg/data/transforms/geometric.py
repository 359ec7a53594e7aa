"""Transforms that move pixels: resize and flip."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from attrs import frozen

from detcfg.config import ConfigError
from detcfg.config.ranges import Fraction, NonEmpty, Ordered, PositiveFloat, PositiveInt
from detcfg.data.transforms.base import Fields, Transform, TransformConfig, is_spatial
from detcfg.structures import rescaled_size

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic"]


@frozen(kw_only=True)
class ResizeConfig(TransformConfig):
    """Resize images with their boxes and masks (mmcv/transforms/processing.py, Resize)."""

    scale: tuple[PositiveInt, PositiveInt] = (1333, 800)
    """With `keep_ratio` the longest and the shortest edge that the image may have, in any order, and the
    image becomes as large as both allow. Without it (width, height)."""
    keep_ratio: bool = True
    """Whether the image keeps its proportions."""
    interpolation: Interpolation = "bilinear"
    """Of the image; masks take the nearest pixel."""
    antialias: bool = False
    """Filter before shrinking. MMDetection does not, so its published weights expect False."""

    def transform(self) -> Transform:
        return Resize(self)


class Resize:
    def __init__(self, config: ResizeConfig) -> None:
        self.config = config

    def __call__(self, fields: Fields) -> Fields:
        height, width = fields["image"].shape[-2:]
        if self.config.keep_ratio:
            size = rescaled_size((height, width), self.config.scale)
        else:
            size = self.config.scale[1], self.config.scale[0]
        return resize(fields, size, self.config.interpolation, antialias=self.config.antialias)


def resize(fields: Fields, size: tuple[int, int], interpolation: str, *, antialias: bool) -> Fields:
    """Bring the image to (height, width), its boxes and masks along with it."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if tuple(fields["image"].shape[-2:]) == size:
        return fields
    mode = InterpolationMode(interpolation)
    return {
        name: F.resize(value, list(size), mode, antialias=antialias) if is_spatial(value) else value
        for name, value in fields.items()
    }


@frozen(kw_only=True)
class RandomResizeConfig(TransformConfig):
    """Resize to a size drawn between two (mmcv/transforms/processing.py, RandomResize)."""

    scale: NonEmpty[tuple[PositiveInt, PositiveInt]] = ((1333, 640), (1333, 800))
    """Two scales as of `ResizeConfig`: either edge is drawn between theirs. One: it is multiplied by a factor."""
    ratio_range: Ordered[PositiveFloat] | None = None
    """What the factor of a single scale is drawn from; (0.1, 2.0) is large-scale jitter."""
    keep_ratio: bool = True
    """Whether the image keeps its proportions."""
    interpolation: Interpolation = "bilinear"
    """Of the image; masks take the nearest pixel."""
    antialias: bool = False
    """Filter before shrinking."""

    def wired(self) -> RandomResizeConfig:
        if len(self.scale) != (2 if self.ratio_range is None else 1):
            raise ConfigError(
                f"scale is {self.scale} and ratio_range {self.ratio_range}; give two scales, or one with a range."
            )
        return self

    def transform(self) -> Transform:
        return RandomResize(self)


class RandomResize:
    def __init__(self, config: RandomResizeConfig) -> None:
        self.config = config

    def __call__(self, fields: Fields) -> Fields:
        return _resized(fields, self.draw(), self.config)

    def draw(self) -> tuple[int, int]:
        """A scale."""
        if self.config.ratio_range is not None:
            low, high = self.config.ratio_range
            factor = low + (high - low) * float(torch.rand(()))
            return int(self.config.scale[0][0] * factor), int(self.config.scale[0][1] * factor)
        edges = zip(*(sorted(scale) for scale in self.config.scale), strict=True)
        short, long = (int(torch.randint(min(edge), max(edge) + 1, ())) for edge in edges)
        return long, short


@frozen(kw_only=True)
class RandomChoiceResizeConfig(TransformConfig):
    """Resize to one of several sizes (mmcv/transforms/processing.py, RandomChoiceResize)."""

    scales: NonEmpty[tuple[PositiveInt, PositiveInt]] = tuple(
        (1333, edge) for edge in (640, 672, 704, 736, 768, 800)
    )
    """As of `ResizeConfig`."""
    keep_ratio: bool = True
    """Whether the image keeps its proportions."""
    interpolation: Interpolation = "bilinear"
    """Of the image; masks take the nearest pixel."""
    antialias: bool = False
    """Filter before shrinking."""

    def transform(self) -> Transform:
        return RandomChoiceResize(self)


class RandomChoiceResize:
    def __init__(self, config: RandomChoiceResizeConfig) -> None:
        self.config = config

    def __call__(self, fields: Fields) -> Fields:
        scale = self.config.scales[int(torch.randint(len(self.config.scales), ()))]
        return _resized(fields, scale, self.config)


def _resized(
    fields: Fields, scale: tuple[int, int], config: RandomResizeConfig | RandomChoiceResizeConfig
) -> Fields:
    one = ResizeConfig(
        scale=scale,
        keep_ratio=config.keep_ratio,
        interpolation=config.interpolation,
        antialias=config.antialias,
    )
    return Resize(one)(fields)


@frozen(kw_only=True)
class RandomFlipConfig(TransformConfig):
    """Mirror the image (mmcv/transforms/processing.py, RandomFlip)."""

    prob: Fraction = 0.5
    """How often it is done, from 0 to 1."""
    direction: Literal["horizontal", "vertical"] = "horizontal"
    """Along which axis."""

    def transform(self) -> Transform:
        from torchvision.transforms import v2

        kind = v2.RandomHorizontalFlip if self.direction == "horizontal" else v2.RandomVerticalFlip
        return kind(self.prob)
