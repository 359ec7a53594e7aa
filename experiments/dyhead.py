"""ATSS with dynamic head, ResNet-50-FPN, 12 epochs on COCO.

Paper: Dai et al., 2021, https://arxiv.org/abs/2106.08322
Reference: MMDetection's dyhead/atss_r50_fpn_dyhead_1x_coco, 43.3 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import atss
from detcfg.heads.anchor_based.atss_head import ATSSHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.dyhead import DyHeadConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.sequential import SequentialNeckConfig


@frozen(kw_only=True)
class Model(atss.Model):
    neck: NeckConfig | None = SequentialNeckConfig(
        necks=(FPNConfig(start_level=1, add_extra_convs="on_output"), DyHeadConfig(num_blocks=6))
    )
    bbox_head: DenseHeadConfig = ATSSHeadConfig(stacked_convs=0)


@frozen(kw_only=True)
class Experiment(atss.Experiment):
    model: Model = Model()
