"""PAA (probabilistic anchor assignment), ResNet-50-FPN, 12 epochs on COCO.

Paper: Kim and Lee, 2020, https://arxiv.org/abs/2007.08103
Reference: MMDetection's paa/paa_r50_fpn_1x_coco, 40.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import atss
from detcfg.heads.anchor_based.paa_head import PAAHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig


@frozen(kw_only=True)
class Model(atss.Model):
    bbox_head: DenseHeadConfig = PAAHeadConfig()


@frozen(kw_only=True)
class Experiment(atss.Experiment):
    model: Model = Model()
