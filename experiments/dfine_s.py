"""D-FINE S, HGNetV2-B0, 132 epochs on COCO.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Reference: Peterande/D-FINE's configs/dfine/dfine_hgnetv2_s_coco.yml, 48.5 box AP.
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
from detcfg.necks.hybrid_encoder import HybridEncoderConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig


@frozen(kw_only=True)
class Model(dfine_l.Model):
    backbone: BackboneConfig = HGNetV2Config(arch="B0", use_lab=True)
    encoder: HybridEncoderConfig = HybridEncoderConfig(expansion=0.5, depth_mult=0.34)
    decoder: DFINETransformerConfig = DFINETransformerConfig(num_layers=3)


@frozen(kw_only=True)
class Experiment(dfine_l.Experiment):
    model: DFINEConfig = Model()
    data: DataConfig = dfine_l.data(switch_epoch=120, repeats=20)
    trainer: TrainerConfig = evolve(
        dfine_l.Experiment().trainer,
        epochs=132,
        optimizer=AdamWConfig(
            lr=2e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(
                norm_decay_mult=0.0,
                bias_decay_mult=0.0,
                custom_keys=(CustomKeyConfig(key="backbone", lr_mult=0.5),),
            ),
        ),
    )
