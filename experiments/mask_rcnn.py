"""Mask R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: He et al., 2017, https://arxiv.org/abs/1703.06870
Reference: MMDetection's mask_rcnn/mask-rcnn_r50_fpn_1x_coco, 38.2 box AP and 34.7 mask AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.detectors.mask_rcnn import ROI_HEAD, MaskRCNNConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig


@frozen(kw_only=True)
class Model(MaskRCNNConfig):
    backbone: BackboneConfig = faster_rcnn.Model().backbone
    roi_head: StandardRoIHeadConfig = ROI_HEAD


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: MaskRCNNConfig = Model()
    data: DataConfig = evolve(faster_rcnn.Experiment().data, with_mask=True)
