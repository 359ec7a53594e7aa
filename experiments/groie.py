"""Faster R-CNN with the generic RoI extractor, ResNet-50-FPN, 12 epochs on COCO.

Paper: Rossi et al., 2020, https://arxiv.org/abs/2004.13665
Reference: MMDetection's groie/faste-rcnn_r50_fpn_groie_1x_coco, 38.3 box AP.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from detcfg.experiments import faster_rcnn
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.conv_module import ConvModuleConfig
from detcfg.layers.generalized_attention import GeneralizedAttentionConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.generic import GenericRoIExtractorConfig

EXTRACTOR: Final = GenericRoIExtractorConfig(
    roi_layer=RoIAlignConfig(output_size=7, sampling_ratio=2),
    pre_cfg=ConvModuleConfig(kernel_size=5, padding=2),
    post_cfg=GeneralizedAttentionConfig(num_heads=6, attention_type="0100"),
)


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(bbox_roi_extractor=EXTRACTOR)


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
