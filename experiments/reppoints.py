"""RepPoints by moments, ResNet-50-FPN with group norm, 12 epochs on COCO.

Paper: Yang et al., 2019, https://arxiv.org/abs/1904.11490
Reference: MMDetection's reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco, 38.1 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.reppoints_head import RepPointsHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.norm import GNConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    neck: NeckConfig | None = FPNConfig(start_level=1, add_extra_convs="on_input", norm_cfg=GNConfig())
    bbox_head: DenseHeadConfig = RepPointsHeadConfig(
        norm_cfg=GNConfig(),
        loss_bbox_init=SmoothL1LossConfig(beta=0.11, loss_weight=0.5),
        loss_bbox_refine=SmoothL1LossConfig(beta=0.11),
    )


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(optimizer=SGDConfig(lr=0.01))
