"""FCOS, ResNet-50-FPN, 12 epochs on COCO.

Paper: Tian et al., 2019, https://arxiv.org/abs/1904.01355
Reference: MMDetection's fcos/fcos_r50-caffe_fpn_gn-head_1x_coco, 36.6 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.fcos_head import FCOSHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.optimizers import ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, style="caffe", norm_cfg=BNConfig(requires_grad=False)
    )
    neck: NeckConfig | None = FPNConfig(
        start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True
    )
    bbox_head: DenseHeadConfig = FCOSHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        optimizer=SGDConfig(lr=0.01, paramwise_cfg=ParamwiseConfig(bias_lr_mult=2.0, bias_decay_mult=0.0)),
        schedule=MultiStepConfig(start_factor=1 / 3),
        clip_grad=ClipGradConfig(),
    )
