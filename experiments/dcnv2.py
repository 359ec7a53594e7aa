"""Faster R-CNN with modulated deformable convolutions in the last three stages, ResNet-50-FPN, 12 epochs on COCO.

Paper: Zhu et al., 2018, https://arxiv.org/abs/1811.11168
Reference: MMDetection's dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco, 41.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.experiments import faster_rcnn
from detcfg.layers.deform_conv import DCNv2Config


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    backbone: BackboneConfig = ResNetConfig(
        depth=50,
        frozen_stages=1,
        pretrained="ResNet50_Weights.IMAGENET1K_V1",
        dcn=DCNv2Config(),
        stage_with_dcn=(False, True, True, True),
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
