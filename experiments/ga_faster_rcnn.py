"""Faster R-CNN on guided anchors, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2019, https://arxiv.org/abs/1901.03278
Reference: MMDetection's guided_anchoring/ga-faster-rcnn_r50-caffe_fpn_1x_coco, 39.6 box AP; this is its
sibling ga-faster-rcnn_r50_fpn_1x_coco.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.ga_rpn_head import GARPNHeadConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig

RPN_HEAD = GARPNHeadConfig(
    anchor_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.07, 0.07, 0.14, 0.14)),
    bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.07, 0.07, 0.11, 0.11)),
)


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    rpn_head: ProposalHeadConfig = RPN_HEAD
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(
            bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.05, 0.05, 0.1, 0.1))
        ),
        assigner=MaxIoUAssignerConfig(
            pos_iou_thr=0.6, neg_iou_thr=0.6, min_pos_iou=0.6, match_low_quality=False
        ),
        sampler=RandomSamplerConfig(num=256, pos_fraction=0.25),
        test_cfg=RoITestConfig(score_thr=1e-3),
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(clip_grad=ClipGradConfig())
