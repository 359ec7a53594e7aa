"""YOLOF, ResNet-50-C5, 12 epochs on COCO.

Paper: Chen et al., 2021, https://arxiv.org/abs/2103.09460
Reference: MMDetection's yolof/yolof_r50-c5_8xb8-1x_coco, 37.5 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.yolof_head import YOLOFHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.dilated_encoder import DilatedEncoderConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, out_indices=(3,), style="caffe", norm_cfg=BNConfig(requires_grad=False)
    )
    neck: NeckConfig | None = DilatedEncoderConfig()
    bbox_head: DenseHeadConfig = YOLOFHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        optimizer=SGDConfig(
            lr=0.12, paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, backbone_lr_mult=1 / 3)
        ),
        schedule=MultiStepConfig(start_factor=0.00066667, warmup_iters=1500),
        base_batch_size=64,
    )
