"""Mask R-CNN with group norm everywhere, ResNet-50-FPN, 24 epochs on COCO.

Paper: Wu and He, 2018, https://arxiv.org/abs/1803.08494
Reference: MMDetection's gn/mask-rcnn_r50_fpn_gn-all_2x_coco, 40.2 box AP and 36.4 mask AP.
Its backbone starts from open-mmlab://detectron/resnet50_gn: give `pretrained` the path of such a file.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import evolve
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.mask_rcnn import ROI_HEAD
from detcfg.experiments import mask_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared4Conv1FCBBoxHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.norm import GNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.schedules import MultiStepConfig

NORM: Final = GNConfig(num_groups=32)


@frozen(kw_only=True)
class Model(mask_rcnn.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        # As the published weights were trained: BGR pixels, centred but not scaled.
        mean=(103.53, 116.28, 123.675),
        std=(1.0, 1.0, 1.0),
        channel_order="bgr",
    )
    backbone: BackboneConfig = ResNetConfig(depth=50, frozen_stages=1, norm_cfg=NORM)
    neck: NeckConfig | None = FPNConfig(norm_cfg=NORM)
    roi_head: StandardRoIHeadConfig = evolve(
        ROI_HEAD,
        bbox_head=Shared4Conv1FCBBoxHeadConfig(norm_cfg=NORM),
        mask_head=FCNMaskHeadConfig(norm_cfg=NORM),
    )


@frozen(kw_only=True)
class Experiment(mask_rcnn.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(epochs=24, schedule=MultiStepConfig(milestones=(16, 22)))
