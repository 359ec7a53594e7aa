"""TOOD, ResNet-50-FPN, 12 epochs on COCO.

Paper: Feng et al., 2021, https://arxiv.org/abs/2108.07755
Reference: MMDetection's tood/tood_r50_fpn_1x_coco, 42.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import atss
from detcfg.heads.anchor_based.tood_head import TOODHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig


@frozen(kw_only=True)
class Model(atss.Model):
    bbox_head: DenseHeadConfig = TOODHeadConfig()


@frozen(kw_only=True)
class Experiment(atss.Experiment):
    model: Model = Model()
