"""Single-stage instance segmentation: one head predicts masks from the feature maps.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.detectors.backbone_neck import BackboneNeckConfig, BackboneNeckDetector
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class SingleStageInstanceSegmentorConfig(BackboneNeckConfig):
    """Backbone, neck and one mask head (mmdet/models/detectors/single_stage_instance_seg.py)."""

    mask_head: DenseHeadConfig
    """Predicts the masks."""

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, mask_head=wired.wired_class_head(wired.mask_head, "mask_head"))

    def build(self) -> SingleStageInstanceSegmentor:
        return SingleStageInstanceSegmentor(self.resolved())


class SingleStageInstanceSegmentor(BackboneNeckDetector):
    """`mask_head(neck(backbone(images)))`."""

    def __init__(self, config: SingleStageInstanceSegmentorConfig) -> None:
        super().__init__(config)
        self.mask_head = config.mask_head.build()

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.mask_head.loss(features, batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.mask_head.predict(features, batch)
