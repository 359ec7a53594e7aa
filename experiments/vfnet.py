"""VFNet (VarifocalNet), ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhang et al., 2020, https://arxiv.org/abs/2008.13367
Reference: MMDetection's vfnet/vfnet_r50_fpn_1x_coco, 41.6 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.experiments import fcos, retinanet
from detcfg.heads.anchor_free.vfnet_head import VFNetHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    neck: NeckConfig | None = fcos.Model().neck
    bbox_head: DenseHeadConfig = VFNetHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = evolve(
        fcos.Experiment().trainer, schedule=MultiStepConfig(start_factor=0.1), clip_grad=None
    )
