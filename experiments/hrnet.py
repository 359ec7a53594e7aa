"""Faster R-CNN on HRNetV2p-W18, 12 epochs on COCO.

Paper: Sun et al., 2019, https://arxiv.org/abs/1904.04514
Reference: MMDetection's hrnet/faster-rcnn_hrnetv2p-w18-1x_coco, 36.9 box AP.
Its backbone starts from open-mmlab://msra/hrnetv2_w18: give `pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hrnet import HRNetConfig, wide
from detcfg.experiments import faster_rcnn
from detcfg.necks.base import NeckConfig
from detcfg.necks.hrfpn import HRFPNConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    backbone: BackboneConfig = HRNetConfig(extra=wide(18))
    neck: NeckConfig | None = HRFPNConfig()


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
