"""RT-DETRv2, ResNet-50-vd, 72 epochs on COCO.

Paper: Lv et al., 2024, https://arxiv.org/abs/2407.17140
Reference: lyuwenyu/RT-DETR's rtdetrv2_pytorch/configs/rtdetrv2/rtdetrv2_r50vd_6x_coco.yml, 53.4 box AP.

The reference's variants with discrete sampling are `model.decoder.cross_attn_method=discrete`, trained from the ordinary one's
weights; those with fewer points `model.decoder.num_points=[1, 1, 1]`.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.presnet import PResNetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.rtdetr import RTDETRConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import dfine_l
from detcfg.layers.frozen_bn import FrozenBNConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, ParamwiseConfig
from detcfg.recipe.schedules import ConstantConfig


@frozen(kw_only=True)
class Model(RTDETRConfig):
    backbone: BackboneConfig = PResNetConfig(depth=50, frozen_stages=0, norm_cfg=FrozenBNConfig())


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: RTDETRConfig = Model()
    data: DataConfig = dfine_l.data(switch_epoch=71, repeats=3)
    trainer: TrainerConfig = TrainerConfig(
        epochs=72,
        optimizer=AdamWConfig(
            lr=1e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, backbone_lr_mult=0.1),
        ),
        schedule=ConstantConfig(warmup_iters=2000),
        clip_grad=ClipGradConfig(max_norm=0.1),
        ema=EMAConfig(momentum=0.0001, gamma=2000),
        base_batch_size=16,
    )
