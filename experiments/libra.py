"""Libra R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Pang et al., 2019, https://arxiv.org/abs/1904.02701
Reference: MMDetection's libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco, 38.3 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.boxes.samplers.combined import CombinedSamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.losses.balanced_l1 import BalancedL1LossConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.bfp import BFPConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.sequential import SequentialNeckConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    neck: NeckConfig | None = SequentialNeckConfig(necks=(FPNConfig(), BFPConfig(refine_type="non_local")))
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        sampler=RandomSamplerConfig(num=256, pos_fraction=0.5, neg_pos_ub=5, add_gt_as_proposals=False)
    )
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(loss_bbox=BalancedL1LossConfig()),
        sampler=CombinedSamplerConfig(num=512, pos_fraction=0.25),
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
