"""Single-stage detectors: one dense head predicts from the feature maps.

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
class SingleStageDetectorConfig(BackboneNeckConfig):
    """Backbone, neck and one dense head (mmdet/models/detectors/single_stage.py)."""

    bbox_head: DenseHeadConfig
    """The head that classifies and refines boxes."""

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, bbox_head=wired.wired_class_head(wired.bbox_head, "bbox_head"))

    def build(self) -> SingleStageDetector:
        return SingleStageDetector(self.resolved())


class DenseDetector(BackboneNeckDetector):
    """`bbox_head(neck(backbone(images)))`."""

    def __init__(self, config: BackboneNeckConfig, head: DenseHeadConfig) -> None:
        super().__init__(config)
        self.bbox_head = head.build()

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return self.bbox_head.loss(features, batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.bbox_head.predict(features, batch)


class SingleStageDetector(DenseDetector):
    """The detector of `SingleStageDetectorConfig`."""

    def __init__(self, config: SingleStageDetectorConfig) -> None:
        super().__init__(config, config.bbox_head)
