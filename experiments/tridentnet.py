"""TridentNet, ResNet-50 without a feature pyramid, 12 epochs on COCO.

Paper: Li et al., 2019, https://arxiv.org/abs/1901.01892
Reference: MMDetection's tridentnet/tridentnet_r50-caffe_1x_coco, 37.7 box AP.
Its backbone starts from Detectron2's caffe-style weights (open-mmlab://detectron2/resnet50_caffe): give
`pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.trident_resnet import TridentResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.trident_faster_rcnn import TridentFasterRCNNConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import ConvFCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.res_layer import ResLayerConfig
from detcfg.heads.roi.trident_roi_head import TridentRoIHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig


@frozen(kw_only=True)
class Model(TridentFasterRCNNConfig):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    )
    backbone: TridentResNetConfig = TridentResNetConfig(
        depth=50, frozen_stages=1, style="caffe", norm_cfg=BNConfig(requires_grad=False)
    )
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        feat_channels=1024,
        anchor_generator=AnchorGeneratorConfig(scales=(2.0, 4.0, 8.0, 16.0, 32.0), strides=(16,)),
        rpn_proposal=RPNTestConfig(nms_pre=12000, max_per_img=500),
        test_cfg=RPNTestConfig(nms_pre=6000),
    )
    roi_head: TridentRoIHeadConfig = TridentRoIHeadConfig(
        bbox_roi_extractor=SingleRoIExtractorConfig(roi_layer=RoIAlignConfig(output_size=14)),
        shared_head=ResLayerConfig(depth=50, style="caffe", norm_cfg=BNConfig(requires_grad=False)),
        bbox_head=ConvFCBBoxHeadConfig(with_avg_pool=True),
        sampler=RandomSamplerConfig(num=128, pos_fraction=0.5, add_gt_as_proposals=False),
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: TridentFasterRCNNConfig = Model()
