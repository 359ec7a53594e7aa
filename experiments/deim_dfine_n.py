"""DEIM with D-FINE N, HGNetV2-B0, 160 epochs on COCO.

Paper: Huang et al., 2024, https://arxiv.org/abs/2412.04234
Reference: ShihuaHuang95/DEIM's configs/deim_dfine/deim_hgnetv2_n_coco.yml, 43.0 box AP.

The model and the losses are DEIM's. Its dense one-to-one matching is an augmentation (mosaic and mix-up up to half of the
training), which is not here; the warm-up is linear, where the reference's is quadratic.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiments import dfine_n
from detcfg.heads.query.deim_criterion import DEIMCriterionConfig
from detcfg.heads.query.dfine_transformer import DFINETransformerConfig
from detcfg.layers.activation import SiLUConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.schedules import ConstantConfig


@frozen(kw_only=True)
class Model(dfine_n.Model):
    decoder: DFINETransformerConfig = evolve(
        dfine_n.Model().decoder, act_cfg=SiLUConfig(), criterion=DEIMCriterionConfig()
    )


@frozen(kw_only=True)
class Experiment(dfine_n.Experiment):
    model: DFINEConfig = Model()
    trainer: TrainerConfig = evolve(dfine_n.Experiment().trainer, schedule=ConstantConfig(warmup_iters=2000))
