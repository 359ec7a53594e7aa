"""A region proposal network by itself.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from typing import Self

from attrs import evolve, frozen

from detcfg.config import is_unset
from detcfg.detectors.backbone_neck import BackboneNeckConfig
from detcfg.detectors.single_stage import DenseDetector
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig


@frozen(kw_only=True)
class RPNConfig(BackboneNeckConfig):
    """Backbone, neck and a head that proposes class-agnostic boxes (mmdet/models/detectors/rpn.py)."""

    rpn_head: ProposalHeadConfig = RPNHeadConfig()
    """Feature maps to proposals."""

    def wired(self) -> Self:
        if is_unset(self.num_classes):  # no data around it, and the head does not tell classes apart
            return evolve(self, num_classes=1).wired()
        wired = super().wired()
        return evolve(wired, rpn_head=wired.wired_head(wired.rpn_head, "rpn_head"))

    def build(self) -> RPN:
        return RPN(self.resolved())


class RPN(DenseDetector):
    """Its detections are proposals, all of class 0. The head's weights are called `bbox_head`, as in MMDetection."""

    def __init__(self, config: RPNConfig) -> None:
        super().__init__(config, config.rpn_head)
