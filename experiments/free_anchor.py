"""FreeAnchor, ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhang et al., 2019, https://arxiv.org/abs/1909.02466
Reference: MMDetection's free_anchor/freeanchor_r50_fpn_1x_coco, 38.7 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.free_anchor_retina_head import FreeAnchorRetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = FreeAnchorRetinaHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = evolve(retinanet.Experiment().trainer, clip_grad=ClipGradConfig())
