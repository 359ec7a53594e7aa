"""Cascade R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Cai and Vasconcelos, 2018, https://arxiv.org/abs/1712.00726
Reference: MMDetection's cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco, 40.3 box AP (its Faster R-CNN: 37.4).
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.detectors.cascade_rcnn import CascadeRCNNConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHeadConfig


@frozen(kw_only=True)
class Model(CascadeRCNNConfig):
    backbone: BackboneConfig = faster_rcnn.Model().backbone
    roi_head: CascadeRoIHeadConfig = CascadeRoIHeadConfig()


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: CascadeRCNNConfig = Model()
