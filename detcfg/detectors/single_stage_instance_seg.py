"""Detectors that predict masks from feature maps in one go.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.base import BackboneConfig
from detcfg.config import ConfigError, fill
from detcfg.detectors.backbone_neck import BackboneNeckDetector
from detcfg.detectors.base import DetectorConfig
from detcfg.heads.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class SingleStageInstanceSegmentorConfig(DetectorConfig):
    """Backbone, neck and one mask head (mmdet/models/detectors/single_stage_instance_seg.py)."""

    backbone: BackboneConfig
    """Image to feature maps."""
    neck: NeckConfig
    """Feature maps to feature maps; None: the heads read the backbone's."""
    mask_head: DenseHeadConfig
    """The head that draws the masks."""

    def wired(self) -> Self:
        wired = super().wired()
        features = wired.backbone
        neck = fill(wired.neck, "backbone.feature_channels", in_channels=features.feature_channels)
        neck = fill(neck, "backbone.feature_strides", in_strides=features.feature_strides)
        channels = neck.feature_channels
        if len(set(channels)) != 1:
            raise ConfigError(
                f"neck.feature_channels is {channels}, but mask_head.in_channels is one number."
            )
        head = fill(wired.mask_head, "neck.feature_channels", in_channels=channels[0])
        head = fill(head, "neck.feature_strides", in_strides=neck.feature_strides)
        head = fill(head, "num_classes", num_classes=wired.num_classes)
        return evolve(wired, neck=neck, mask_head=head)

    def build(self) -> SingleStageInstanceSegmentor:
        return SingleStageInstanceSegmentor(self.resolved())


class SingleStageInstanceSegmentor(BackboneNeckDetector):
    """`mask_head(neck(backbone(images)))`."""

    def __init__(self, config: SingleStageInstanceSegmentorConfig) -> None:
        super().__init__(config, config.backbone, config.neck)
        self.mask_head = config.mask_head.build()

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.mask_head.loss(features, batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.mask_head.predict(features, batch)
