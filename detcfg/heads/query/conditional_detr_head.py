"""What Conditional DETR's queries predict (mmdet/models/dense_heads/conditional_detr_head.py)."""

from __future__ import annotations

from attrs import frozen
from torch import nn

from detcfg.boxes.assigners.hungarian import HungarianAssignerConfig
from detcfg.heads.query.detr_head import DETRHead, DETRHeadConfig
from detcfg.heads.query.two_stage import PRIOR
from detcfg.losses.base import ClassLossConfig
from detcfg.losses.focal import FocalLossConfig


@frozen(kw_only=True)
class ConditionalDETRHeadConfig(DETRHeadConfig):
    """A class and a box a query; centres count from its point (Meng et al., 2021, https://arxiv.org/abs/2108.06152)."""

    loss_cls: ClassLossConfig = FocalLossConfig(loss_weight=2.0)
    """The loss of the class scores."""
    assigner: HungarianAssignerConfig = HungarianAssignerConfig()
    """Matches predictions with ground-truth boxes."""

    def build(self) -> ConditionalDETRHead:
        return ConditionalDETRHead(self.resolved())


class ConditionalDETRHead(DETRHead):
    """`DETRHead`, whose classes begin with a probability of 0.01 where they are independent."""

    def __init__(self, config: ConditionalDETRHeadConfig) -> None:
        super().__init__(config)
        if self.loss_cls.use_sigmoid:
            nn.init.constant_(self.fc_cls.bias, PRIOR)
