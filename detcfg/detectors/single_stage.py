"""Detectors that predict from feature maps in one go.

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
class SingleStageDetectorConfig(DetectorConfig):
    """Backbone, neck and one dense head (mmdet/models/detectors/single_stage.py)."""

    backbone: BackboneConfig
    """Image to feature maps."""
    neck: NeckConfig | None = None
    """Feature maps to feature maps; None: the heads read the backbone's."""
    bbox_head: DenseHeadConfig
    """The head that classifies and refines boxes."""

    def wired(self) -> Self:
        wired = super().wired()
        neck, features, source = wired_neck(wired.backbone, wired.neck)
        head = fill(wired.bbox_head, "num_classes", num_classes=wired.num_classes)
        head = wired_head(head, "bbox_head", features, source)
        return evolve(wired, neck=neck, bbox_head=head)

    def build(self) -> SingleStageDetector:
        return SingleStageDetector(self.resolved())


class DenseDetector(BackboneNeckDetector):
    """`bbox_head(neck(backbone(images)))`."""

    def __init__(
        self, config: DetectorConfig, backbone: BackboneConfig, neck: NeckConfig | None, head: DenseHeadConfig
    ) -> None:
        super().__init__(config, backbone, neck)
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
        super().__init__(config, config.backbone, config.neck, config.bbox_head)
