"""SOLO, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2019, https://arxiv.org/abs/1912.04488
Reference: MMDetection's solo/solo_r50_fpn_1x_coco, 33.1 mask AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.single_stage_instance_seg import SingleStageInstanceSegmentorConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.instance.solo_head import SOLOHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig


@frozen(kw_only=True)
class Model(SingleStageInstanceSegmentorConfig):
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, pretrained="ResNet50_Weights.IMAGENET1K_V1"
    )
    neck: NeckConfig = FPNConfig()
    mask_head: DenseHeadConfig = SOLOHeadConfig()


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: SingleStageInstanceSegmentorConfig = Model()
    data: DataConfig = faster_rcnn.Experiment().data
    trainer: TrainerConfig = TrainerConfig(optimizer=SGDConfig(lr=0.01), save_best="segm_AP")
