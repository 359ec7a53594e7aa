"""Double-Head R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wu et al., 2020, https://arxiv.org/abs/1904.06493
Reference: MMDetection's double_heads/dh-faster-rcnn_r50_fpn_1x_coco, 40.0 box AP (its Faster R-CNN: 37.4).
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.double_conv_fc_bbox_head import DoubleConvFCBBoxHeadConfig
from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    roi_head: DoubleHeadRoIHeadConfig = DoubleHeadRoIHeadConfig(
        bbox_head=DoubleConvFCBBoxHeadConfig(
            num_convs=4,
            num_fcs=2,
            loss_cls=CrossEntropyLossConfig(loss_weight=2.0),
            loss_bbox=SmoothL1LossConfig(beta=1.0, loss_weight=2.0),
        ),
        reg_roi_scale_factor=1.3,
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
