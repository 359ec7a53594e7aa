"""Detectors that propose boxes first and look at each of them then.

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
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class TwoStageDetectorConfig(DetectorConfig):
    """Backbone, neck, proposals and a RoI head (mmdet/models/detectors/two_stage.py)."""

    backbone: BackboneConfig
    """Image to feature maps."""
    neck: NeckConfig | None = None
    """None: the heads read the backbone's feature maps."""
    rpn_head: ProposalHeadConfig
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig
    """Feature maps and proposals to detections."""

    def wired(self) -> Self:
        wired = super().wired()
        neck, features, source = wired_neck(wired.backbone, wired.neck)
        rpn_head = wired_head(wired.rpn_head, "rpn_head", features, source)
        roi_head = wired_head(wired.roi_head, "roi_head", features, source)
        roi_head = fill(roi_head, "num_classes", num_classes=wired.num_classes)
        return evolve(wired, neck=neck, rpn_head=rpn_head, roi_head=roi_head)

    def build(self) -> TwoStageDetector:
        return TwoStageDetector(self.resolved())


class TwoStageDetector(BackboneNeckDetector):
    """`roi_head(features, rpn_head(features))`, where features are `neck(backbone(images))`."""

    def __init__(self, config: TwoStageDetectorConfig) -> None:
        super().__init__(config, config.backbone, config.neck)
        self.rpn_head = config.rpn_head.build()
        self.roi_head = config.roi_head.build()

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        losses, proposals = self.rpn_head.loss_and_proposals(features, batch, targets)
        return losses | self.roi_head.loss(features, proposals, batch, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        proposals = self.rpn_head.proposals(features, batch)
        return self.roi_head.predict(features, proposals, batch)
