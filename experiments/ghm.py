"""RetinaNet with gradient harmonising losses, ResNet-50-FPN, 12 epochs on COCO.

Paper: Li et al., 2018, https://arxiv.org/abs/1811.05181
Reference: MMDetection's ghm/retinanet_r50_fpn_ghm-1x_coco, 37.0 box AP (its RetinaNet: 36.5).
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.losses.ghm import GHMCConfig, GHMRConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = RetinaHeadConfig(
        loss_cls=GHMCConfig(bins=30, momentum=0.75),
        loss_bbox=GHMRConfig(mu=0.02, bins=10, momentum=0.7, loss_weight=10.0),
    )


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
