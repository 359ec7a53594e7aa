"""Faster R-CNN without a feature pyramid, on a ResNet-50 with a dilated last stage, 12 epochs on COCO.

Paper: Ren et al., 2015, https://arxiv.org/abs/1506.01497; the dilation is that of Dai et al., 2016,
https://arxiv.org/abs/1605.06409.
Reference: MMDetection's faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco, 37.2 box AP.
Its backbone starts from Detectron2's caffe-style weights (open-mmlab://detectron2/resnet50_caffe): give
`pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.experiments import c4
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.norm import BNConfig


@frozen(kw_only=True)
class Model(c4.Model):
    backbone: BackboneConfig = ResNetConfig(
        depth=50,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(3,),
        frozen_stages=1,
        style="caffe",
        norm_cfg=BNConfig(requires_grad=False),
    )
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        feat_channels=2048,
        anchor_generator=AnchorGeneratorConfig(scales=(2.0, 4.0, 8.0, 16.0, 32.0), strides=(16,)),
        allowed_border=0,
        rpn_proposal=RPNTestConfig(nms_pre=12000, max_per_img=2000),
        test_cfg=RPNTestConfig(nms_pre=6000),
    )
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig()


@frozen(kw_only=True)
class Experiment(c4.Experiment):
    model: Model = Model()
