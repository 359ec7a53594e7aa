"""Faster R-CNN with a path aggregation network, ResNet-50, 12 epochs on COCO.

Paper: Liu et al., 2018, https://arxiv.org/abs/1803.01534
Reference: MMDetection's pafpn/faster-rcnn_r50_pafpn_1x_coco, 37.5 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import faster_rcnn
from detcfg.necks.base import NeckConfig
from detcfg.necks.pafpn import PAFPNConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    neck: NeckConfig | None = PAFPNConfig()


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
