"""D-FINE X, HGNetV2-B5, 80 epochs on COCO.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Reference: Peterande/D-FINE's configs/dfine/dfine_hgnetv2_x_coco.yml, 55.8 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hgnetv2 import HGNetV2Config
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiments import dfine_l
from detcfg.heads.query.dfine_transformer import DFINETransformerConfig
from detcfg.layers.frozen_bn import FrozenBNConfig
from detcfg.necks.hybrid_encoder import HybridEncoderConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig


@frozen(kw_only=True)
class Model(dfine_l.Model):
    backbone: BackboneConfig = HGNetV2Config(arch="B5", frozen_stages=0, norm_cfg=FrozenBNConfig())
    encoder: HybridEncoderConfig = HybridEncoderConfig(hidden_dim=384, dim_feedforward=2048)
    decoder: DFINETransformerConfig = DFINETransformerConfig(reg_scale=8.0)


@frozen(kw_only=True)
class Experiment(dfine_l.Experiment):
    model: DFINEConfig = Model()
    data: DataConfig = dfine_l.data(switch_epoch=72, repeats=3)
    trainer: TrainerConfig = evolve(
        dfine_l.Experiment().trainer,
        optimizer=AdamWConfig(
            lr=2.5e-4,
            weight_decay=1.25e-4,
            paramwise_cfg=ParamwiseConfig(
                norm_decay_mult=0.0, custom_keys=(CustomKeyConfig(key="backbone", lr_mult=0.01),)
            ),
        ),
    )
