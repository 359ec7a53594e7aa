"""DetectoRS on Cascade R-CNN, ResNet-50, 12 epochs on COCO.

Paper: Qiao et al., 2020, https://arxiv.org/abs/2006.02334
Reference: MMDetection's detectors/detectors_cascade-rcnn_r50_1x_coco, 47.4 box AP (its Cascade R-CNN: 40.3).
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.detectors_resnet import DetectoRSResNetConfig
from detcfg.config import evolve
from detcfg.experiments import cascade_rcnn
from detcfg.layers.conv_aws import ConvAWSConfig
from detcfg.layers.sac import SACConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.rfp import RFPConfig

BACKBONE: Final = DetectoRSResNetConfig(
    depth=50,
    frozen_stages=1,
    conv_cfg=ConvAWSConfig(),
    sac=SACConfig(use_deform=True),
    stage_with_sac=(False, True, True, True),
    pretrained="ResNet50_Weights.IMAGENET1K_V1",
)


@frozen(kw_only=True)
class Model(cascade_rcnn.Model):
    backbone: BackboneConfig = evolve(BACKBONE, output_img=True)
    neck: NeckConfig | None = RFPConfig(rfp_backbone=BACKBONE)


@frozen(kw_only=True)
class Experiment(cascade_rcnn.Experiment):
    model: Model = Model()
