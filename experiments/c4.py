"""Faster R-CNN without a feature pyramid, on the fourth of a ResNet-50's stages, 12 epochs on COCO.

Paper: Ren et al., 2015, https://arxiv.org/abs/1506.01497
Reference: MMDetection's faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco, 35.9 box AP; images of one size, as
here, give it 35.6.
Its backbone starts from Detectron2's caffe-style weights (open-mmlab://detectron2/resnet50_caffe): give
`pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import ConvFCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.res_layer import ResLayerConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import NeckConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig


@frozen(kw_only=True)
class Model(FasterRCNNConfig):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        frozen_stages=1,
        style="caffe",
        norm_cfg=BNConfig(requires_grad=False),
    )
    neck: NeckConfig | None = None
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        feat_channels=1024,
        anchor_generator=AnchorGeneratorConfig(scales=(2.0, 4.0, 8.0, 16.0, 32.0), strides=(16,)),
        rpn_proposal=RPNTestConfig(nms_pre=12000, max_per_img=2000),
        test_cfg=RPNTestConfig(nms_pre=6000),
    )
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_roi_extractor=SingleRoIExtractorConfig(roi_layer=RoIAlignConfig(output_size=14)),
        shared_head=ResLayerConfig(depth=50, style="caffe", norm_cfg=BNConfig(requires_grad=False)),
        bbox_head=ConvFCBBoxHeadConfig(with_avg_pool=True),
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: FasterRCNNConfig = Model()
