"""RT-DETRv2, ResNet-34-vd, 120 epochs on COCO.

Paper: Lv et al., 2024, https://arxiv.org/abs/2407.17140
Reference: lyuwenyu/RT-DETR's rtdetrv2_pytorch/configs/rtdetrv2/rtdetrv2_r34vd_120e_coco.yml, 49.9 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.presnet import PResNetConfig
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.detectors.rtdetr import RTDETRConfig
from detcfg.experiments import dfine_l, rtdetrv2_r18
from detcfg.heads.query.rtdetr_transformer import RTDETRTransformerV2Config
from detcfg.heads.query.two_stage import TwoStageQueryHeadConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, ParamwiseConfig


@frozen(kw_only=True)
class Model(rtdetrv2_r18.Model):
    backbone: BackboneConfig = PResNetConfig(depth=34)
    decoder: TwoStageQueryHeadConfig = RTDETRTransformerV2Config(num_layers=4)


@frozen(kw_only=True)
class Experiment(rtdetrv2_r18.Experiment):
    model: RTDETRConfig = Model()
    data: DataConfig = dfine_l.data(switch_epoch=117, repeats=3)
    trainer: TrainerConfig = evolve(
        rtdetrv2_r18.Experiment().trainer,
        optimizer=AdamWConfig(
            lr=1e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, bias_decay_mult=0.0, backbone_lr_mult=0.5),
        ),
    )
