"""Transforms of images with their boxes and masks: torchvision's v2, and what v2 lacks."""

from detcfg.data.transforms.base import Fields, Pipeline, Transform, TransformConfig
from detcfg.data.transforms.composed import ComposeConfig, RandomChoiceConfig
from detcfg.data.transforms.crops import ExpandConfig, MinIoURandomCropConfig, RandomCropConfig
from detcfg.data.transforms.filters import FilterAnnotationsConfig
from detcfg.data.transforms.geometric import (
    RandomChoiceResizeConfig,
    RandomFlipConfig,
    RandomResizeConfig,
    ResizeConfig,
)
from detcfg.data.transforms.photometric import ColorJitterConfig, PhotoMetricDistortionConfig

__all__ = [
    "ColorJitterConfig",
    "ComposeConfig",
    "ExpandConfig",
    "Fields",
    "FilterAnnotationsConfig",
    "MinIoURandomCropConfig",
    "PhotoMetricDistortionConfig",
    "Pipeline",
    "RandomChoiceConfig",
    "RandomChoiceResizeConfig",
    "RandomCropConfig",
    "RandomFlipConfig",
    "RandomResizeConfig",
    "ResizeConfig",
    "Transform",
    "TransformConfig",
]
