"""FoveaBox, ResNet-50-FPN, 12 epochs on COCO.

Paper: Kong et al., 2019, https://arxiv.org/abs/1904.03797
Reference: MMDetection's foveabox/fovea_r50_fpn_4xb4-1x_coco, 36.5 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.fovea_head import FoveaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.losses.focal import FocalLossConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = FoveaHeadConfig(
        scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
        loss_cls=FocalLossConfig(gamma=1.5, alpha=0.4),
        test_cfg=DenseTestConfig(min_bbox_size=-1),
    )


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
