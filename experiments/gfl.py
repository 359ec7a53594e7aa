"""GFL (generalised focal loss), ResNet-50-FPN, 12 epochs on COCO.

Paper: Li et al., 2020, https://arxiv.org/abs/2006.04388
Reference: MMDetection's gfl/gfl_r50_fpn_1x_coco, 40.2 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import atss
from detcfg.heads.anchor_based.gfl_head import GFLHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig


@frozen(kw_only=True)
class Model(atss.Model):
    bbox_head: DenseHeadConfig = GFLHeadConfig()


@frozen(kw_only=True)
class Experiment(atss.Experiment):
    model: Model = Model()
