"""Detectors that predict masks from feature maps in one go.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.base import BackboneConfig
from detcfg.config import fill
from detcfg.detectors.backbone_neck import BackboneNeckDetector
from detcfg.detectors.base import DetectorConfig
from detcfg.detectors.wiring import wired_head, wired_neck
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class SingleStageInstanceSegmentorConfig(DetectorConfig):
    """Backbone, neck and one mask head (mmdet/models/detectors/single_stage_instance_seg.py)."""

    backbone: BackboneConfig
    """Image to feature maps."""
    neck: NeckConfig
    """Feature maps to feature maps."""
    mask_head: DenseHeadConfig
    """The head that draws the masks."""

    def wired(self) -> Self:
        wired = super().wired()
        neck, features, source = wired_neck(wired.backbone, wired.neck)
        assert neck is not None  # there was one
        head = fill(wired.mask_head, "num_classes", num_classes=wired.num_classes)
        head = wired_head(head, "mask_head", features, source)
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
