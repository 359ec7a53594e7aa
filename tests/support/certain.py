"""The tiny detector without chance: one process and several learn the same, but for rounding."""

from __future__ import annotations

from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.recipe.config import TrainerConfig
from tests.support import tiny

EVERYTHING = RandomSamplerConfig(num=10**6, pos_fraction=0.5)


@frozen(kw_only=True)
class Model(tiny.Model):
    backbone: BackboneConfig = ResNetConfig(depth=18, base_channels=4, norm_eval=True)
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        feat_channels=8, sampler=evolve(EVERYTHING, add_gt_as_proposals=False)
    )
    roi_head: RoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=8), sampler=EVERYTHING
    )


@frozen(kw_only=True)
class Experiment(tiny.Experiment):
    model: FasterRCNNConfig = Model()
    data: DataConfig = evolve(tiny.Experiment().data, train_transforms=())
    trainer: TrainerConfig = evolve(tiny.Experiment().trainer, checkpoint_interval=1)
