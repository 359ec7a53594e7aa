"""Dynamic R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhang et al., 2020, https://arxiv.org/abs/2004.06002
Reference: MMDetection's dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco, 38.9 box AP (its Faster R-CNN: 37.4).
"""

from __future__ import annotations

from attrs import frozen

from detcfg.boxes.nms import NMSConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.dynamic_roi_head import DynamicRoIHeadConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        rpn_proposal=RPNTestConfig(nms_pre=2000, nms=NMSConfig(iou_threshold=0.85)),
        test_cfg=RPNTestConfig(nms=NMSConfig(iou_threshold=0.85)),
    )
    roi_head: DynamicRoIHeadConfig = DynamicRoIHeadConfig()


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
