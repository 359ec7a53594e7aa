"""Cascade Mask R-CNN, ResNet-50-FPN, 12 epochs on COCO.

Paper: Cai and Vasconcelos, 2019, https://arxiv.org/abs/1906.09756
Reference: MMDetection's cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco, 41.2 box AP and 35.9 mask AP
(its Mask R-CNN: 38.2 and 34.7).
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.experiments import cascade_rcnn
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHeadConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig


@frozen(kw_only=True)
class Model(cascade_rcnn.Model):
    roi_head: CascadeRoIHeadConfig = CascadeRoIHeadConfig(
        mask_roi_extractor=SingleRoIExtractorConfig(roi_layer=RoIAlignConfig(output_size=14)),
        mask_head=FCNMaskHeadConfig(),
    )


@frozen(kw_only=True)
class Experiment(cascade_rcnn.Experiment):
    model: Model = Model()
    data: DataConfig = evolve(cascade_rcnn.Experiment().data, with_mask=True)
