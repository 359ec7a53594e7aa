"""Transforms that show a part of the image, or the image as a part of a larger one."""

from __future__ import annotations

from typing import Literal

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.config.ranges import Fraction, NonEmpty, Ordered, PositiveFloat, PositiveFraction, PositiveInt
from detcfg.data.transforms.base import Fields, Transform, TransformConfig, is_spatial


@frozen(kw_only=True)
class MinIoURandomCropConfig(TransformConfig):
    """Crop so that an object overlaps the crop by at least a drawn IoU, as SSD (Liu et al., 2016) does.

    Objects whose centre is outside the crop go (mmdet/datasets/transforms/transforms.py, MinIoURandomCrop).
    """

    min_ious: NonEmpty[Fraction] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """What is drawn from, beside 0 (any crop) and 1 (no crop)."""
    min_crop_size: PositiveFraction = 0.3
    """Of the image's width and of its height."""

    def transform(self) -> Transform:
        from torchvision.transforms import v2

        options = [0.0, *self.min_ious, 1.0]
        return _NeedsObjects(v2.RandomIoUCrop(min_scale=self.min_crop_size, sampler_options=options))


class _NeedsObjects:
    """Leaves images alone that have no objects: torchvision looks for a crop around one in vain."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, fields: Fields) -> Fields:
        return self.transform(fields) if len(fields["boxes"]) else fields


@frozen(kw_only=True)
class ExpandConfig(TransformConfig):
    """Put the image into a larger one of a single colour (mmdet/datasets/transforms/transforms.py, Expand)."""

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """The colour around it, RGB."""
    ratio_range: Ordered[PositiveFloat] = (1.0, 4.0)
    """The sides are multiplied by a factor between."""
    prob: Fraction = 0.5
    """How often it is done, from 0 to 1."""

    def wired(self) -> ExpandConfig:
        if not 1 <= self.ratio_range[0] <= self.ratio_range[1]:
            raise ConfigError(f"ratio_range is {self.ratio_range}; give two rising factors from 1 on.")
        return self

    def transform(self) -> Transform:
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        fill: dict[type[Tensor], float | list[float]] = {
            tv_tensors.Image: [float(round(value)) for value in self.mean],
            tv_tensors.Mask: 0,
        }
        return v2.RandomZoomOut(fill=fill, side_range=self.ratio_range, p=self.prob)


@frozen(kw_only=True)
class RandomCropConfig(TransformConfig):
    """Cut a window of a given size out of the image (mmdet/datasets/transforms/transforms.py, RandomCrop)."""

    crop_size: tuple[PositiveInt, PositiveInt] | tuple[PositiveFraction, PositiveFraction] = (1024, 1024)
    """(height, width), as `crop_type` says."""
    crop_type: Literal["absolute", "relative", "absolute_range", "relative_range"] = "absolute"
    """In pixels, where a smaller image stays whole, or as shares of the image. `absolute_range`: either side
    is drawn between the two numbers, in pixels. `relative_range`: each share is drawn between its number and 1."""
    allow_negative_crop: bool = False
    """Whether a window without objects is taken, or the image stays as it is then."""
    recompute_bbox: bool = False
    """Whether boxes become those of what is left of the masks, where there are masks."""

    def wired(self) -> RandomCropConfig:
        limit = 1 if self.crop_type.startswith("relative") else float("inf")
        rising = self.crop_type != "absolute_range" or self.crop_size[0] <= self.crop_size[1]
        if not rising or not all(0 < side <= limit for side in self.crop_size):
            raise ConfigError(
                f"crop_size is {self.crop_size}, which cannot be with crop_type={self.crop_type!r}."
            )
        return self

    def transform(self) -> Transform:
        return RandomCrop(self)


class RandomCrop:
    def __init__(self, config: RandomCropConfig) -> None:
        self.config = config

    def __call__(self, fields: Fields) -> Fields:
        height, width = fields["image"].shape[-2:]
        size = self.size(height, width)
        top, left = _up_to(height - size[0]), _up_to(width - size[1])
        cropped = crop(fields, top, left, *size)
        if self.config.recompute_bbox and "masks" in cropped:
            cropped = _boxed_anew(cropped)
        boxes = cropped["boxes"]
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return cropped if self.config.allow_negative_crop or bool(seen.any()) else fields

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a window in an image of this size."""
        first, second = self.config.crop_size
        match self.config.crop_type:
            case "absolute":
                sides = first, second
            case "relative":
                sides = first * height, second * width
            case "absolute_range":
                sides = _between(first, min(height, second)), _between(first, min(width, second))
            case "relative_range":
                sides = _share(first) * height + 0.5, _share(second) * width + 0.5
        return min(height, max(1, int(sides[0]))), min(width, max(1, int(sides[1])))


def crop(fields: Fields, top: int, left: int, height: int, width: int) -> Fields:
    """A window of the image; boxes are clipped to it, and those outside are empty then."""
    from torchvision.transforms.v2 import functional as F

    return {
        name: F.crop(value, top, left, height, width) if is_spatial(value) else value
        for name, value in fields.items()
    }


def _up_to(most: int) -> int:
    return int(torch.randint(most + 1, ()))


def _between(low: float, high: float) -> int:
    """A whole number from `low` to `high`, or `high` where `low` is above."""
    return int(high) - _up_to(max(int(high) - int(low), 0))


def _share(least: float) -> float:
    return least + float(torch.rand(())) * (1 - least)


def _boxed_anew(fields: Fields) -> Fields:
    """The boxes around the masks; one whose mask is empty is empty."""
    from torchvision import tv_tensors

    masks, old = fields["masks"].as_subclass(Tensor), fields["boxes"]
    height, width = masks.shape[-2:]
    ends: list[Tensor] = []
    for line, length in ((masks.any(dim=1), width), (masks.any(dim=2), height)):
        seen = line.int()
        ends.append(seen.argmax(dim=1))  # the first pixel of an object, and the end of its last
        ends.append((length - seen.flip(1).argmax(dim=1)) * line.any(dim=1))
    boxes = torch.stack((ends[0], ends[2], ends[1], ends[3]), dim=1).to(old.dtype)
    made = tv_tensors.BoundingBoxes(
        boxes, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=(height, width)
    )
    return {**fields, "boxes": made}
