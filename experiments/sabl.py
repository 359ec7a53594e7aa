"""Faster R-CNN with side-aware boundary localisation, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2019, https://arxiv.org/abs/1912.04260
Reference: MMDetection's sabl/sabl-faster-rcnn_r50_fpn_1x_coco, 39.9 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.sabl_head import SABLHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(bbox_head=SABLHeadConfig())


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
