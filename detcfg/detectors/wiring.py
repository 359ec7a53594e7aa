"""What the detectors' `wired` share: backbone to neck, and neck to heads."""

from __future__ import annotations

from typing import TypeVar

from detcfg.backbones.base import BackboneConfig
from detcfg.config import Config, ConfigError, fill
from detcfg.config.types import field_types, matches
from detcfg.losses.base import ClassLossConfig
from detcfg.necks.base import NeckConfig

H = TypeVar("H", bound=Config)


def wired_neck(
    backbone: BackboneConfig, neck: NeckConfig | None
) -> tuple[NeckConfig | None, BackboneConfig | NeckConfig, str]:
    """The neck with its inputs filled in, whose features the heads read, and its name."""
    reads = neck is not None and neck.reads_image
    if reads != backbone.gives_image:
        raise ConfigError(
            f"neck is {type(neck).__name__}, which reads {'the images too' if reads else 'feature maps only'}, "
            f"but backbone is {type(backbone).__name__} and gives {'them not' if reads else 'the images too'}. "
            f"Give a backbone with output_img={reads}."
        )
    if neck is None:
        return None, backbone, "backbone"
    neck = fill(neck, "backbone.feature_channels", in_channels=backbone.feature_channels)
    neck = fill(neck, "backbone.feature_strides", in_strides=backbone.feature_strides)
    return neck, neck, "neck"


def _check_classes(head: Config) -> None:
    """Hold what a dense head's loss says of the classes against their number."""
    loss, num_classes = getattr(head, "loss_cls", None), getattr(head, "num_classes", None)
    if isinstance(loss, ClassLossConfig) and isinstance(num_classes, int):
        loss.check_classes(loss.cls_channels(num_classes), num_classes)


def wired_head(head: H, name: str, features: BackboneConfig | NeckConfig, source: str) -> H:
    """A head with its inputs filled in: the feature maps of `source`, of one width unless it reads several."""
    channels = features.feature_channels
    reads = field_types(type(head))["in_channels"]
    one_width = len(set(channels)) == 1 and matches(channels[0], reads)
    if not one_width and not matches(channels, reads):
        raise ConfigError(
            f"{source}.feature_channels is {channels}, but {name}.in_channels is one number. "
            "Put a neck between them that brings all levels to one width."
        )
    _check_classes(head)
    head = fill(head, f"{source}.feature_channels", in_channels=channels[0] if one_width else channels)
    return fill(head, f"{source}.feature_strides", in_strides=features.feature_strides)
