"""DEIM with D-FINE S, HGNetV2-B0, 132 epochs on COCO.

Paper: Huang et al., 2024, https://arxiv.org/abs/2412.04234
Reference: ShihuaHuang95/DEIM's configs/deim_dfine/deim_hgnetv2_s_coco.yml, 49.0 box AP.

The model, the losses and the learning rate are DEIM's. Its dense one-to-one matching is an augmentation (mosaic and mix-up up to
half of the training), which is not here; the warm-up is linear, where the reference's is quadratic.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiments import dfine_s
from detcfg.heads.query.deim_criterion import DEIMCriterionConfig
from detcfg.heads.query.dfine_transformer import DFINETransformerConfig
from detcfg.layers.activation import SiLUConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig
from detcfg.recipe.schedules import CosineConfig


@frozen(kw_only=True)
class Model(dfine_s.Model):
    decoder: DFINETransformerConfig = evolve(
        dfine_s.Model().decoder, act_cfg=SiLUConfig(), criterion=DEIMCriterionConfig()
    )


@frozen(kw_only=True)
class Experiment(dfine_s.Experiment):
    model: DFINEConfig = Model()
    trainer: TrainerConfig = evolve(
        dfine_s.Experiment().trainer,
        optimizer=AdamWConfig(
            lr=4e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(
                backbone_lr_mult=0.5,
                norm_decay_mult=0.0,
                custom_keys=(CustomKeyConfig(key=".bn.", decay_mult=0.0),),
            ),
        ),
        schedule=CosineConfig(warmup_iters=2000, begin=64, end=12, eta_min_ratio=0.5),
    )
