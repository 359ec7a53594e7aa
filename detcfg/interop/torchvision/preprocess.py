"""The preprocessor inside torchvision's detectors, which resizes too.

Shapes: images (3, H, W), each of its own size.
"""

from __future__ import annotations

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveInt
from detcfg.detectors.base import DetDataPreprocessor, DetDataPreprocessorConfig


@frozen(kw_only=True)
class ResizingPreprocessorConfig(DetDataPreprocessorConfig):
    """Resize in evaluation, normalise and pad (torchvision/models/detection/transform.py).

    In training images come as they are: the data's transforms resize them, and their objects with them.
    """

    min_size: PositiveInt = 800
    """The shorter side of a resized image, in pixels, …"""
    max_size: PositiveInt = 1333
    """… unless the longer side would exceed this."""

    def build(self) -> ResizingPreprocessor:
        return ResizingPreprocessor(self.resolved())


class ResizingPreprocessor(DetDataPreprocessor):
    """Detections come back in the pixels of the images before they were resized."""

    def __init__(self, config: ResizingPreprocessorConfig) -> None:
        super().__init__(config)
        self.min_size, self.max_size = config.min_size, config.max_size

    def resized(self, image: Tensor) -> Tensor:
        if self.training:
            return image
        height, width = image.shape[-2:]
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        size = (int(height * scale), int(width * scale))
        pixels = image.to(self.mean.device).float()[None]
        return F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)[0]
