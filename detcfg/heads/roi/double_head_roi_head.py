"""The RoI head of Double-Head R-CNN."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.heads.bbox.double_conv_fc_bbox_head import DoubleConvFCBBoxHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig


@frozen(kw_only=True)
class DoubleHeadRoIHeadConfig(StandardRoIHeadConfig):
    """Double-Head R-CNN (Wu et al., 2020, https://arxiv.org/abs/1904.06493).

    Follows mmdet/models/roi_heads/double_roi_head.py.
    """

    bbox_head: DoubleConvFCBBoxHeadConfig = DoubleConvFCBBoxHeadConfig()
    """Classifies rois and refines their boxes, each task from other features."""
    reg_roi_scale_factor: PositiveFloat = 1.3
    """The regression branch pools from proposals enlarged about their centres by this factor."""

    def build(self) -> DoubleHeadRoIHead:
        return DoubleHeadRoIHead(self.resolved())


class DoubleHeadRoIHead(StandardRoIHead):
    """Pools twice: from the proposals for classification, from enlarged ones for regression."""

    def __init__(self, config: DoubleHeadRoIHeadConfig) -> None:
        super().__init__(config)
        self.reg_roi_scale_factor = config.reg_roi_scale_factor

    def bbox_forward(self, features: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_cls = self.pool(features, rois)
        x_reg = self.pool(features, rois, self.reg_roi_scale_factor)
        cls_score, bbox_pred = self.bbox_head(x_cls, x_reg)
        return cls_score, bbox_pred, x_cls
