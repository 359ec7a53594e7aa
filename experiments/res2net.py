"""Faster R-CNN on Res2Net-101 with a feature pyramid, 24 epochs on COCO.

Paper: Gao et al., 2019, https://arxiv.org/abs/1904.01169
Reference: MMDetection's res2net/faster-rcnn_res2net-101_fpn_2x_coco, 43.0 box AP.
Its backbone starts from open-mmlab://res2net101_v1d_26w_4s: give `pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.res2net import Res2NetConfig
from detcfg.experiments import faster_rcnn


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    backbone: BackboneConfig = Res2NetConfig(depth=101, scales=4, base_width=26, frozen_stages=1)


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
