"""RT-DETRv2, ResNet-101-vd, 72 epochs on COCO.

Paper: Lv et al., 2024, https://arxiv.org/abs/2407.17140
Reference: lyuwenyu/RT-DETR's rtdetrv2_pytorch/configs/rtdetrv2/rtdetrv2_r101vd_6x_coco.yml, 54.3 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.presnet import PResNetConfig
from detcfg.config import evolve
from detcfg.detectors.rtdetr import RTDETRConfig
from detcfg.experiments import rtdetrv2_r50
from detcfg.layers.frozen_bn import FrozenBNConfig
from detcfg.necks.hybrid_encoder import HybridEncoderConfig
from detcfg.necks.rtdetr_hybrid_encoder import RTDETRHybridEncoderConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, ParamwiseConfig


@frozen(kw_only=True)
class Model(rtdetrv2_r50.Model):
    backbone: BackboneConfig = PResNetConfig(depth=101, frozen_stages=0, norm_cfg=FrozenBNConfig())
    encoder: HybridEncoderConfig = RTDETRHybridEncoderConfig(hidden_dim=384, dim_feedforward=2048)


@frozen(kw_only=True)
class Experiment(rtdetrv2_r50.Experiment):
    model: RTDETRConfig = Model()
    trainer: TrainerConfig = evolve(
        rtdetrv2_r50.Experiment().trainer,
        optimizer=AdamWConfig(
            lr=1e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, backbone_lr_mult=0.01),
        ),
    )
