"""D-FINE N, HGNetV2-B0, 160 epochs on COCO.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Reference: Peterande/D-FINE's configs/dfine/dfine_hgnetv2_n_coco.yml, 42.8 box AP.
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
    backbone: BackboneConfig = HGNetV2Config(arch="B0", use_lab=True, out_indices=(2, 3))
    encoder: HybridEncoderConfig = HybridEncoderConfig(
        hidden_dim=128, dim_feedforward=512, expansion=0.34, depth_mult=0.5
    )
    decoder: DFINETransformerConfig = DFINETransformerConfig(
        hidden_dim=128, dim_feedforward=512, num_points=(6, 6), num_layers=3
    )


@frozen(kw_only=True)
class Experiment(dfine_l.Experiment):
    model: DFINEConfig = Model()
    data: DataConfig = dfine_l.data(switch_epoch=148, repeats=0)
    trainer: TrainerConfig = evolve(
        dfine_l.Experiment().trainer,
        epochs=160,
        optimizer=AdamWConfig(
            lr=8e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(
                norm_decay_mult=0.0,
                bias_decay_mult=0.0,
                custom_keys=(CustomKeyConfig(key="backbone", lr_mult=0.5),),
            ),
        ),
        base_batch_size=128,
    )
