"""FSAF, ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhu et al., 2019, https://arxiv.org/abs/1903.00621
Reference: MMDetection's fsaf/fsaf_r50_fpn_1x_coco, 37.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.fsaf_head import FSAFHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = FSAFHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = evolve(retinanet.Experiment().trainer, clip_grad=ClipGradConfig(max_norm=10.0))
