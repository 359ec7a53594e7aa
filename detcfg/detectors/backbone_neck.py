"""What most detectors begin with: feature maps by a backbone and a neck.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from typing import Self, TypeVar

from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.base import BackboneConfig
from detcfg.config import Config, ConfigError, fill
from detcfg.config.types import field_types, matches
from detcfg.detectors.base import Detector, DetectorConfig
from detcfg.detectors.declared_maps import DeclaredMaps
from detcfg.losses.base import ClassLossConfig
from detcfg.necks.base import NeckConfig

H = TypeVar("H", bound=Config)


@frozen(kw_only=True)
class BackboneNeckConfig(DetectorConfig):
    """A config of a backbone and a neck; a subclass adds heads, and its `wired` wires them:

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, bbox_head=wired.wired_class_head(wired.bbox_head, "bbox_head"))
    """

    backbone: BackboneConfig
    """Image to feature maps."""
    neck: NeckConfig | None = None
    """Feature maps to feature maps; None: the heads read the backbone's."""

    def wired(self) -> Self:
        """With the neck's inputs filled in.

        Raises:
            ConfigError: The neck does not read what the backbone gives.
        """
        wired = super().wired()
        neck, backbone = wired.neck, wired.backbone
        reads = neck is not None and neck.reads_image
        if reads != backbone.gives_image:
            raise ConfigError(
                f"neck is {type(neck).__name__}, which reads {'the images too' if reads else 'feature maps only'}, "
                f"but backbone is {type(backbone).__name__} and gives {'them not' if reads else 'the images too'}. "
                f"Give a backbone with output_img={reads}."
            )
        if neck is None:
            return wired
        strides, channels = backbone.feature_strides, backbone.feature_channels
        if neck.reads_pyramid and len(strides) > 1 and len(set(strides)) == 1:
            raise ConfigError(
                f"neck is {type(neck).__name__}, which reads a pyramid, but backbone is {type(backbone).__name__}, whose "
                f"{len(strides)} maps with {channels} channels all have the stride {strides[0]}. Let it give one map, "
                "and make a pyramid of that by SimpleFeaturePyramidConfig (ViTDet)."
            )
        neck = fill(neck, "backbone.feature_channels", in_channels=backbone.feature_channels)
        neck = fill(neck, "backbone.feature_strides", in_strides=backbone.feature_strides)
        return evolve(wired, neck=neck)

    def wired_head(self, head: H, name: str) -> H:
        """A head with `in_channels` and `in_strides` filled in, once the neck is wired.

        `in_channels` is one number, or one for each level where the head's field is a tuple.

        Args:
            head: It reads the feature maps.
            name: Its field here.

        Raises:
            ConfigError: The maps differ in channels, and the head reads one number; or its loss weighs another number
                of classes than it has.
        """
        features, source = (self.backbone, "backbone") if self.neck is None else (self.neck, "neck")
        channels = features.feature_channels
        reads = field_types(type(head))["in_channels"]
        one_width = len(set(channels)) == 1 and matches(channels[0], reads)
        if not one_width and not matches(channels, reads):
            raise ConfigError(
                f"{source}.feature_channels is {channels}, but {name}.in_channels is one number. "
                "Put a neck between them that brings all levels to one width."
            )
        head = fill(head, f"{source}.feature_channels", in_channels=channels[0] if one_width else channels)
        head = fill(head, f"{source}.feature_strides", in_strides=features.feature_strides)
        _check_classes(head)  # an RPN says its classes itself
        return head

    def wired_class_head(self, head: H, name: str) -> H:
        """`wired_head`, with `num_classes` filled in too, which the weights of classes are held against.

        Raises:
            ConfigError: As `wired_head`; or the head's loss weighs another number of classes.
        """
        head = fill(self.wired_head(head, name), "num_classes", num_classes=self.num_classes)
        _check_classes(head)
        return head


def _check_classes(head: Config) -> None:
    """Hold the class weights of a dense head's loss against the number of classes, once it is known."""
    loss, num_classes = getattr(head, "loss_cls", None), getattr(head, "num_classes", None)
    if isinstance(loss, ClassLossConfig) and isinstance(num_classes, int):
        loss.check_classes(loss.cls_channels(num_classes), num_classes)


class BackboneNeckDetector(Detector):
    """Its heads read `neck(backbone(images))`, or the backbone's maps where there is no neck."""

    def __init__(self, config: BackboneNeckConfig) -> None:
        super().__init__(config)
        self.backbone = config.backbone.build()
        self.neck = None if config.neck is None else config.neck.build()
        self.declared_maps = DeclaredMaps(backbone=config.backbone, neck=config.neck)

    def extract_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The maps that the heads read; of the first images, what the configs declare of them is held against them."""
        features: tuple[Tensor, ...] = self.backbone(images)
        self.declared_maps.check("backbone", features, images)
        if self.neck is None:
            return features
        features = self.neck(features)
        self.declared_maps.check("neck", features, images)
        return features
