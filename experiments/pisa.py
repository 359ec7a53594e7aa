"""Faster R-CNN with prime sample attention, ResNet-50-FPN, 12 epochs on COCO.

Paper: Cao et al., 2019, https://arxiv.org/abs/1904.04821
Reference: MMDetection's pisa/faster-rcnn_r50_fpn_pisa_1x_coco, 38.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.pisa_roi_head import PISARoIHeadConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        rpn_proposal=RPNTestConfig(nms_pre=2000, max_per_img=2000),
        test_cfg=RPNTestConfig(nms_pre=2000, max_per_img=2000),
    )
    roi_head: PISARoIHeadConfig = PISARoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(loss_bbox=SmoothL1LossConfig(beta=1.0))
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
