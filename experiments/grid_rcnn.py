"""Grid R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Lu et al., 2018, https://arxiv.org/abs/1811.12030
Reference: MMDetection's grid_rcnn/grid-rcnn_r50_fpn_gn-head_1x_coco; its 25 epochs give 40.4 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.boxes.nms import NMSConfig
from detcfg.experiments import cascade_rcnn, faster_rcnn
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.grid_roi_head import GridRoIHeadConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    rpn_head: ProposalHeadConfig = cascade_rcnn.Model().rpn_head
    roi_head: GridRoIHeadConfig = GridRoIHeadConfig(
        test_cfg=RoITestConfig(score_thr=0.03, nms=NMSConfig(iou_threshold=0.3))
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
