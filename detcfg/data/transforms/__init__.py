"""Transforms of images with their boxes and masks: torchvision's v2, and what v2 lacks."""

from detcfg.data.transforms.base import Fields, Pipeline, Transform, TransformConfig
from detcfg.data.transforms.geometric import RandomFlipConfig, ResizeConfig

__all__ = [
    "Fields",
    "Pipeline",
    "RandomFlipConfig",
    "ResizeConfig",
    "Transform",
    "TransformConfig",
]
