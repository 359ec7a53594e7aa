"""Faster R-CNN with Cascade RPN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Vu et al., 2019, https://arxiv.org/abs/1909.06720
Reference: MMDetection's cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco, 40.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.cascade_rpn_head import CascadeRPNHeadConfig
from detcfg.heads.proposal.rpn_head import RPNTestConfig
from detcfg.heads.proposal.stage_cascade_rpn_head import AdaptConfig, StageCascadeRPNHeadConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.iou import IoULossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig

RPN_WEIGHT = 0.7
STAGES = (
    StageCascadeRPNHeadConfig(
        bridged_feature=True,
        with_cls=False,
        reg_decoded_bbox=True,
        bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.5, 0.5)),
        loss_bbox=IoULossConfig(mode="linear", loss_weight=10.0 * RPN_WEIGHT),
    ),
    StageCascadeRPNHeadConfig(
        adapt_cfg=AdaptConfig(adapt_type="offset"),
        reg_decoded_bbox=True,
        bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.05, 0.05, 0.1, 0.1)),
        loss_cls=CrossEntropyLossConfig(use_sigmoid=True, loss_weight=RPN_WEIGHT),
        loss_bbox=IoULossConfig(mode="linear", loss_weight=10.0 * RPN_WEIGHT),
        assigner=MaxIoUAssignerConfig(pos_iou_thr=0.7, neg_iou_thr=0.7, min_pos_iou=0.3),
        sampler=RandomSamplerConfig(num=256, pos_fraction=0.5, add_gt_as_proposals=False),
    ),
)


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, style="caffe", norm_cfg=BNConfig(requires_grad=False)
    )
    rpn_head: ProposalHeadConfig = CascadeRPNHeadConfig(
        stages=STAGES,
        rpn_proposal=RPNTestConfig(nms_pre=2000, max_per_img=300, nms=NMSConfig(iou_threshold=0.8)),
        test_cfg=RPNTestConfig(max_per_img=300, nms=NMSConfig(iou_threshold=0.8)),
    )
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(
            bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.04, 0.04, 0.08, 0.08)),
            loss_cls=CrossEntropyLossConfig(loss_weight=1.5),
            loss_bbox=SmoothL1LossConfig(beta=1.0),
        ),
        assigner=MaxIoUAssignerConfig(
            pos_iou_thr=0.65, neg_iou_thr=0.65, min_pos_iou=0.65, match_low_quality=False
        ),
        sampler=RandomSamplerConfig(num=256, pos_fraction=0.25),
        test_cfg=RoITestConfig(score_thr=1e-3),
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(clip_grad=ClipGradConfig())
