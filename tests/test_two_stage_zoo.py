"""Relatives of the two-stage experiments have the parameters that MMDetection builds."""

from __future__ import annotations

import pytest
from attrs import evolve

from detcfg.backbones.detectors_resnet import DetectoRSResNetConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.detectors.base import DetectorConfig
from detcfg.detectors.mask_rcnn import ROI_HEAD
from detcfg.detectors.single_stage import SingleStageDetectorConfig
from detcfg.experiments import cascade_rcnn, detectors, faster_rcnn, groie, libra, mask_rcnn, retinanet
from detcfg.heads.anchor_based.pisa_retina_head import PISARetinaHeadConfig
from detcfg.heads.bbox.sabl_head import SABLHeadConfig
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHeadConfig
from detcfg.heads.roi.pisa_roi_head import PISARoIHeadConfig
from detcfg.layers.conv_aws import ConvAWSConfig
from detcfg.layers.generalized_attention import GeneralizedAttentionConfig
from detcfg.layers.plugin import PluginConfig
from detcfg.layers.sac import SACConfig
from detcfg.necks.bfp import BFPConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.rfp import RFPConfig
from detcfg.necks.sequential import SequentialNeckConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from tests.support import zoo

MASK_GROIE = evolve(
    ROI_HEAD,
    bbox_roi_extractor=groie.EXTRACTOR,
    mask_roi_extractor=evolve(groie.EXTRACTOR, roi_layer=RoIAlignConfig(output_size=14, sampling_ratio=2)),
)
SABL_STAGES = tuple(
    SABLHeadConfig(bbox_coder=BucketingBBoxCoderConfig(num_buckets=14, scale_factor=factor))
    for factor in (1.7, 1.5, 1.3)
)
RFP_BACKBONE = DetectoRSResNetConfig(depth=50, frozen_stages=1, conv_cfg=ConvAWSConfig())
ATTENTION = PluginConfig(
    cfg=GeneralizedAttentionConfig(num_heads=8, attention_type="1111"),
    stages=(False, False, True, True),
    position="after_conv2",
)

ZOO: dict[str, DetectorConfig] = {
    "libra_rcnn/libra-faster-rcnn_r101_fpn_1x_coco": libra.Model(
        backbone=ResNetConfig(depth=101, frozen_stages=1)
    ),
    "libra_rcnn/libra-retinanet_r50_fpn_1x_coco": retinanet.Model(
        neck=SequentialNeckConfig(
            necks=(
                FPNConfig(start_level=1, add_extra_convs="on_input"),
                BFPConfig(refine_level=1, refine_type="non_local"),
            )
        )
    ),
    "groie/mask-rcnn_r50_fpn_groie_1x_coco": mask_rcnn.Model(roi_head=MASK_GROIE),
    "empirical_attention/faster-rcnn_r50-attn1111_fpn_1x_coco": faster_rcnn.Model(
        backbone=ResNetConfig(depth=50, frozen_stages=1, plugins=(ATTENTION,))
    ),
    "pisa/mask-rcnn_r50_fpn_pisa_1x_coco": mask_rcnn.Model(
        roi_head=PISARoIHeadConfig(
            mask_roi_extractor=ROI_HEAD.mask_roi_extractor, mask_head=ROI_HEAD.mask_head
        )
    ),
    "pisa/retinanet-r50_fpn_pisa_1x_coco": SingleStageDetectorConfig(
        backbone=retinanet.Model().backbone, neck=retinanet.Model().neck, bbox_head=PISARetinaHeadConfig()
    ),
    "sabl/sabl-cascade-rcnn_r50_fpn_1x_coco": cascade_rcnn.Model(
        roi_head=CascadeRoIHeadConfig(bbox_head=SABL_STAGES)
    ),
    "detectors/cascade-rcnn_r50-rfp_1x_coco": detectors.Model(
        backbone=evolve(RFP_BACKBONE, output_img=True), neck=RFPConfig(rfp_backbone=RFP_BACKBONE)
    ),
    "detectors/cascade-rcnn_r50-sac_1x_coco": detectors.Model(
        backbone=evolve(
            RFP_BACKBONE,
            sac=SACConfig(use_deform=True),
            stage_with_sac=(False, True, True, True),
        ),
        neck=FPNConfig(),
    ),
}


@pytest.mark.parametrize("name", sorted(ZOO))
def test_the_state_dict_is_mmdetections(name: str) -> None:
    zoo.check_state_dict(f"{name}.py", ZOO[name])
