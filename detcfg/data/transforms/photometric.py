"""Transforms that change colours and leave places alone."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from attrs import frozen

from detcfg.config.ranges import Fraction, NonNegativeFloat, Ordered, PositiveFloat
from detcfg.data.transforms.base import Transform, TransformConfig


@frozen(kw_only=True)
class PhotoMetricDistortionConfig(TransformConfig):
    """Change brightness, contrast, saturation and hue, each half of the time, and swap channels.

    As SSD (Liu et al., 2016) does and mmdet/datasets/transforms/transforms.py; torchvision's
    `RandomPhotometricDistort` scales brightness where they add to it.
    """

    brightness_delta: Annotated[float, Ge(0), Le(255)] = 32.0
    """Of 255: the image is scaled by 1 up to this share more or less."""
    contrast_range: Ordered[PositiveFloat] = (0.5, 1.5)
    """Between which the factor of the contrast is drawn."""
    saturation_range: Ordered[PositiveFloat] = (0.5, 1.5)
    """Between which the factor of the saturation is drawn."""
    hue_delta: Annotated[float, Ge(0), Le(180)] = 18.0
    """In degrees of the colour wheel."""
    prob: Fraction = 0.5
    """Of each of the changes."""

    def transform(self) -> Transform:
        from torchvision.transforms import v2

        share = self.brightness_delta / 255
        return v2.RandomPhotometricDistort(
            brightness=(1 - share, 1 + share),
            contrast=self.contrast_range,
            saturation=self.saturation_range,
            hue=(-self.hue_delta / 360, self.hue_delta / 360),
            p=self.prob,
        )


@frozen(kw_only=True)
class ColorJitterConfig(TransformConfig):
    """Change brightness, contrast, saturation and hue of every image, in any order."""

    brightness: NonNegativeFloat = 0.2
    """Each of the first three is multiplied by 1 up to so much more or less."""
    contrast: NonNegativeFloat = 0.2
    """How far its factor is from 1, at most."""
    saturation: NonNegativeFloat = 0.2
    """How far its factor is from 1, at most."""
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """As a share of the colour wheel."""

    def transform(self) -> Transform:
        from torchvision.transforms import v2

        return v2.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue)
