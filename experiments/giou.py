"""Faster R-CNN with the GIoU loss for boxes, ResNet-50-FPN, 12 epochs on COCO.

Paper: Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630
Reference: MMDetection's faster_rcnn/faster-rcnn_r50_fpn_giou_1x_coco, 37.6 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.losses.giou import GIoULossConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(reg_decoded_bbox=True, loss_bbox=GIoULossConfig(loss_weight=10.0))
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
