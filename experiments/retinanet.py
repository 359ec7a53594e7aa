"""RetinaNet, ResNet-50-FPN, 12 epochs on COCO.

Paper: Lin et al., 2017, https://arxiv.org/abs/1708.02002
Reference: MMDetection's retinanet/retinanet_r50_fpn_1x_coco, 36.5 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.single_stage import SingleStageDetectorConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig


@frozen(kw_only=True)
class Model(SingleStageDetectorConfig):
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, pretrained="ResNet50_Weights.IMAGENET1K_V1"
    )
    neck: NeckConfig | None = FPNConfig(start_level=1, add_extra_convs="on_input")
    bbox_head: DenseHeadConfig = RetinaHeadConfig()


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: SingleStageDetectorConfig = Model()
    trainer: TrainerConfig = TrainerConfig(optimizer=SGDConfig(lr=0.01))
    data: DataConfig = faster_rcnn.Experiment().data
