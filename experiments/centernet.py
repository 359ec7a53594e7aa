"""CenterNet's successor (the head of CenterNet2 on its own), ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhou et al., 2021, https://arxiv.org/abs/2103.07461
Reference: MMDetection's centernet/centernet-update_r50-caffe_fpn_ms-1x_coco, 40.2 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.centernet_update_head import CenterNetUpdateHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, style="caffe", norm_cfg=BNConfig(requires_grad=False)
    )
    neck: NeckConfig | None = FPNConfig(
        start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True
    )
    bbox_head: DenseHeadConfig = CenterNetUpdateHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        optimizer=SGDConfig(lr=0.01, paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0)),
        schedule=MultiStepConfig(start_factor=0.00025, warmup_iters=4000),
    )
