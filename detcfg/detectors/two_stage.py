"""Two-stage detectors: region proposals, and a RoI head that classifies and refines each.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.detectors.backbone_neck import BackboneNeckConfig, BackboneNeckDetector
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class TwoStageDetectorConfig(BackboneNeckConfig):
    """Backbone, neck, proposals and a RoI head (mmdet/models/detectors/two_stage.py)."""

    rpn_head: ProposalHeadConfig
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig
    """Feature maps and proposals to detections."""

    def wired(self) -> Self:
        wired = super().wired()
        rpn_head = wired.wired_head(wired.rpn_head, "rpn_head")
        roi_head = wired.wired_class_head(wired.roi_head, "roi_head")
        return evolve(wired, rpn_head=rpn_head, roi_head=roi_head)

    def build(self) -> TwoStageDetector:
        return TwoStageDetector(self.resolved())


class TwoStageDetector(BackboneNeckDetector):
    """`roi_head(features, rpn_head(features))`, where features are `neck(backbone(images))`."""

    def __init__(self, config: TwoStageDetectorConfig) -> None:
        super().__init__(config)
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
