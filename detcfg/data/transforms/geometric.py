"""Transforms that move pixels: resize and flip."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen
from torch import Tensor

from detcfg.data.transforms.base import Fields, Transform, TransformConfig

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic"]


@frozen(kw_only=True)
class ResizeConfig(TransformConfig):
    """Resize images with their boxes and masks (mmcv/transforms/processing.py, Resize)."""

    scale: tuple[int, int] = (1333, 800)
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


def rescaled_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of the same ratio whose edges stay within `scale`, rounded as by mmcv."""
    height, width = size
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resize(fields: Fields, size: tuple[int, int], interpolation: str, *, antialias: bool) -> Fields:
    """Bring the image to (height, width), its boxes and masks along with it."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if tuple(fields["image"].shape[-2:]) == size:
        return fields
    mode = InterpolationMode(interpolation)
    return {
        name: F.resize(value, list(size), mode, antialias=antialias) if _is_spatial(value) else value
        for name, value in fields.items()
    }


def _is_spatial(value: Tensor) -> bool:
    from torchvision import tv_tensors

    return isinstance(value, tv_tensors.TVTensor)


@frozen(kw_only=True)
class RandomFlipConfig(TransformConfig):
    """Mirror the image (mmcv/transforms/processing.py, RandomFlip)."""

    prob: float = 0.5
    """How often it is done, from 0 to 1."""
    direction: Literal["horizontal", "vertical"] = "horizontal"
    """Along which axis."""

    def transform(self) -> Transform:
        from torchvision.transforms import v2

        kind = v2.RandomHorizontalFlip if self.direction == "horizontal" else v2.RandomVerticalFlip
        return kind(self.prob)
