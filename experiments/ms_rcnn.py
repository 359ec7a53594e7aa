"""Mask Scoring R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Huang et al., 2019, https://arxiv.org/abs/1903.00241
Reference: MMDetection's ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco, 38.2 box AP and 36.0 mask AP (its Mask R-CNN:
38.0 and 34.4).
Its backbone starts from Detectron2's caffe-style weights (open-mmlab://detectron2/resnet50_caffe): give
`pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import mask_rcnn
from detcfg.heads.roi.mask_scoring_roi_head import MaskScoringRoIHeadConfig
from detcfg.layers.norm import BNConfig


@frozen(kw_only=True)
class Model(mask_rcnn.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, style="caffe", norm_cfg=BNConfig(requires_grad=False)
    )
    roi_head: MaskScoringRoIHeadConfig = MaskScoringRoIHeadConfig()


@frozen(kw_only=True)
class Experiment(mask_rcnn.Experiment):
    model: Model = Model()
