"""A region proposal network by itself.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from typing import Self

from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.config import is_unset
from detcfg.detectors.base import DetectorConfig
from detcfg.detectors.single_stage import DenseDetector
from detcfg.detectors.wiring import wired_head, wired_neck
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.necks.base import NeckConfig


@frozen(kw_only=True)
class RPNConfig(DetectorConfig):
    """Backbone, neck and a head that finds objects of whatever class (mmdet/models/detectors/rpn.py)."""

    backbone: BackboneConfig
    """Image to feature maps."""
    neck: NeckConfig | None = None
    """Feature maps to feature maps; None: the head reads the backbone's."""
    rpn_head: ProposalHeadConfig = RPNHeadConfig()
    """Feature maps to proposals."""

    def wired(self) -> Self:
        # Without data around it no number of classes is asked for: the head does not tell them apart.
        wired = evolve(self, num_classes=1) if is_unset(self.num_classes) else super().wired()
        neck, features, source = wired_neck(wired.backbone, wired.neck)
        head = wired_head(wired.rpn_head, "rpn_head", features, source)
        return evolve(wired, neck=neck, rpn_head=head)

    def build(self) -> RPN:
        return RPN(self.resolved())


class RPN(DenseDetector):
    """Its detections are proposals, all of class 0. The head's weights are called `bbox_head`, as in MMDetection."""

    def __init__(self, config: RPNConfig) -> None:
        super().__init__(config, config.backbone, config.neck, config.rpn_head)
