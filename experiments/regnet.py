"""Faster R-CNN on RegNetX-3.2GF with a feature pyramid, 12 epochs on COCO.

Paper: Radosavovic et al., 2020, https://arxiv.org/abs/2003.13678
Reference: MMDetection's regnet/faster-rcnn_regnetx-3.2GF_fpn_1x_coco, 39.9 box AP (weight decay 0.00005).
Its backbone starts from open-mmlab://regnetx_3.2gf: give `pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.regnet import RegNetConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import faster_rcnn


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        # As the published weights were trained: BGR pixels, and the usual figures in that order.
        mean=(103.53, 116.28, 123.675),
        std=(57.375, 57.12, 58.395),
        channel_order="bgr",
    )
    backbone: BackboneConfig = RegNetConfig(arch="regnetx_3.2gf", frozen_stages=1)


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
