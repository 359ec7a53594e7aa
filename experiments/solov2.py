"""SOLOv2, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2020, https://arxiv.org/abs/2003.10152
Reference: MMDetection's solov2/solov2_r50_fpn_1x_coco, 34.8 mask AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.experiments import solo
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.instance.solov2_head import SOLOV2HeadConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig


@frozen(kw_only=True)
class Model(solo.Model):
    mask_head: DenseHeadConfig = SOLOV2HeadConfig()


@frozen(kw_only=True)
class Experiment(solo.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = evolve(solo.Experiment().trainer, clip_grad=ClipGradConfig(max_norm=35.0))
