"""ATSS, ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhang et al., 2019, https://arxiv.org/abs/1912.02424
Reference: MMDetection's atss/atss_r50_fpn_1x_coco, 39.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.atss_head import ATSSHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    neck: NeckConfig | None = FPNConfig(start_level=1, add_extra_convs="on_output")
    bbox_head: DenseHeadConfig = ATSSHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
