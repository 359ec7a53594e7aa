"""Faster R-CNN with group norm and weight standardisation everywhere, ResNet-50-FPN, 12 epochs on COCO.

Paper: Qiao et al., 2019, https://arxiv.org/abs/1903.10520
Reference: MMDetection's gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco, 39.7 box AP.
Its backbone starts from weights trained with these layers (open-mmlab://jhu/resnet50_gn_ws): give
`pretrained` the path of such a file.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared4Conv1FCBBoxHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.conv_ws import ConvWSConfig
from detcfg.layers.norm import GNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig

CONV: Final = ConvWSConfig()
NORM: Final = GNConfig(num_groups=32)


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    backbone: BackboneConfig = ResNetConfig(depth=50, frozen_stages=1, conv_cfg=CONV, norm_cfg=NORM)
    neck: NeckConfig | None = FPNConfig(conv_cfg=CONV, norm_cfg=NORM)
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared4Conv1FCBBoxHeadConfig(conv_cfg=CONV, norm_cfg=NORM)
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
