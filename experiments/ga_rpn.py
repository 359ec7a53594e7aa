"""A region proposal network with guided anchors, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2019, https://arxiv.org/abs/1901.03278
Reference: MMDetection's guided_anchoring/ga-rpn_r50-caffe_fpn_1x_coco, average recall 68.4 at 1,000
proposals; this is its sibling ga-rpn_r50_fpn_1x_coco.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.experiments import ga_faster_rcnn, rpn
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.ga_rpn_head import GARPNTestConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig


@frozen(kw_only=True)
class Model(rpn.Model):
    rpn_head: ProposalHeadConfig = evolve(
        ga_faster_rcnn.RPN_HEAD, test_cfg=GARPNTestConfig(nms_pre=2000, max_per_img=1000)
    )


@frozen(kw_only=True)
class Experiment(rpn.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(clip_grad=ClipGradConfig())
