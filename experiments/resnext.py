"""Mask R-CNN on ResNeXt-101-32x4d with a feature pyramid, 12 epochs on COCO.

Paper: Xie et al., 2016, https://arxiv.org/abs/1611.05431
Reference: MMDetection's mask_rcnn/mask-rcnn_x101-32x4d_fpn_1x_coco, 41.9 box AP and 37.5 mask AP.
Its backbone starts from open-mmlab://resnext101_32x4d: give `pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnext import ResNeXtConfig
from detcfg.experiments import mask_rcnn


@frozen(kw_only=True)
class Model(mask_rcnn.Model):
    backbone: BackboneConfig = ResNeXtConfig(depth=101, groups=32, base_width=4, frozen_stages=1)


@frozen(kw_only=True)
class Experiment(mask_rcnn.Experiment):
    model: Model = Model()
