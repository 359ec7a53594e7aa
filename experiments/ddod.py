"""DDOD, ResNet-50-FPN, 12 epochs on COCO.

Paper: Chen et al., 2021, https://arxiv.org/abs/2107.02963
Reference: MMDetection's ddod/ddod_r50_fpn_1x_coco, 41.7 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import atss
from detcfg.heads.anchor_based.ddod_head import DDODHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig


@frozen(kw_only=True)
class Model(atss.Model):
    bbox_head: DenseHeadConfig = DDODHeadConfig()


@frozen(kw_only=True)
class Experiment(atss.Experiment):
    model: Model = Model()
