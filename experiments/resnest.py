"""Faster R-CNN on ResNeSt-50 with a feature pyramid, synchronised batch norm, 12 epochs on COCO.

Paper: Zhang et al., 2020, https://arxiv.org/abs/2004.08955
Reference: MMDetection's resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco, 42.0 box AP
(trained on images of a random size).
Its backbone starts from open-mmlab://resnest50: give `pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnest import ResNeStConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared4Conv1FCBBoxHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.norm import SyncBNConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        mean=(123.68, 116.779, 103.939), std=(58.393, 57.12, 57.375)
    )
    backbone: BackboneConfig = ResNeStConfig(
        depth=50, stem_channels=64, frozen_stages=1, norm_cfg=SyncBNConfig(), norm_eval=False
    )
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared4Conv1FCBBoxHeadConfig(norm_cfg=SyncBNConfig())
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
