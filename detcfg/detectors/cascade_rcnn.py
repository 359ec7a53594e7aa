"""Cascade R-CNN, with and without masks."""

from __future__ import annotations

from attrs import frozen

from detcfg.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHeadConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig


@frozen(kw_only=True)
class CascadeRCNNConfig(FasterRCNNConfig):
    """Cascade R-CNN (Cai and Vasconcelos, 2018, https://arxiv.org/abs/1712.00726), with a feature pyramid."""

    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        loss_bbox=SmoothL1LossConfig(beta=1 / 9),
        allowed_border=0,
        rpn_proposal=RPNTestConfig(nms_pre=2000, max_per_img=2000),
    )
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig = CascadeRoIHeadConfig()
    """Feature maps and proposals to detections."""

    def build(self) -> CascadeRCNN:
        return CascadeRCNN(self.resolved())


class CascadeRCNN(FasterRCNN):
    """Region proposals, and stages that each refine the boxes of the one before."""
