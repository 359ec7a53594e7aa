"""Faster R-CNN."""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.detectors.two_stage import TwoStageDetector, TwoStageDetectorConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig


@frozen(kw_only=True)
class FasterRCNNConfig(TwoStageDetectorConfig):
    """Faster R-CNN (Ren et al., 2015, https://arxiv.org/abs/1506.01497), with a feature pyramid."""

    backbone: BackboneConfig = ResNetConfig(frozen_stages=1)
    """Image to feature maps."""
    neck: NeckConfig | None = FPNConfig()
    """Feature maps to feature maps; None: the heads read the backbone's."""
    rpn_head: ProposalHeadConfig = RPNHeadConfig()
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig = StandardRoIHeadConfig()
    """Feature maps and proposals to detections."""

    def build(self) -> FasterRCNN:
        return FasterRCNN(self.resolved())


class FasterRCNN(TwoStageDetector):
    """Region proposals, and a head that classifies and refines each."""
