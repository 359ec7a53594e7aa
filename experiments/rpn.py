"""A region proposal network, ResNet-50-FPN, 12 epochs on COCO.

Paper: Ren et al., 2015, https://arxiv.org/abs/1506.01497
Reference: MMDetection's rpn/rpn_r50_fpn_1x_coco, average recall 58.2 at 1,000 proposals.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.rpn import RPNConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig


@frozen(kw_only=True)
class Model(RPNConfig):
    backbone: BackboneConfig = faster_rcnn.Model().backbone
    neck: NeckConfig | None = FPNConfig()
    rpn_head: ProposalHeadConfig = RPNHeadConfig(test_cfg=RPNTestConfig(nms_pre=2000))


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: Model = Model()
    data: DataConfig = faster_rcnn.Experiment().data
