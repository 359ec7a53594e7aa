"""Faster R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Ren et al., 2015, https://arxiv.org/abs/1506.01497
Reference: MMDetection's faster_rcnn/faster-rcnn_r50_fpn_1x_coco, 37.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.experiment import ExperimentConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig


@frozen(kw_only=True)
class Model(FasterRCNNConfig):
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, pretrained="ResNet50_Weights.IMAGENET1K_V1"
    )
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig()


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: FasterRCNNConfig = Model()
    data: DataConfig = DataConfig(
        train=CocoDatasetConfig(
            ann_file="annotations/instances_train2017.json",
            img_prefix="train2017",
            filter_empty_gt=True,
            min_size=32,
        ),
        val=CocoDatasetConfig(
            ann_file="annotations/instances_val2017.json", img_prefix="val2017", filter_empty_gt=False
        ),
    )
