"""AutoAssign, ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhu et al., 2020, https://arxiv.org/abs/2007.03496
Reference: MMDetection's autoassign/autoassign_r50-caffe_fpn_1x_coco, 40.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import fcos
from detcfg.heads.anchor_free.autoassign_head import AutoAssignHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(fcos.Model):
    neck: NeckConfig | None = FPNConfig(
        start_level=1, add_extra_convs="on_input", relu_before_extra_convs=True
    )
    bbox_head: DenseHeadConfig = AutoAssignHeadConfig()


@frozen(kw_only=True)
class Experiment(fcos.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        optimizer=SGDConfig(lr=0.01, paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0)),
        schedule=MultiStepConfig(warmup_iters=1000),
    )
