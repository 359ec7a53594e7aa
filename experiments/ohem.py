"""Faster R-CNN with online hard example mining, ResNet-50-FPN, 12 epochs on COCO.

Paper: Shrivastava et al., 2016, https://arxiv.org/abs/1604.03540
Reference: MMDetection's faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco; it publishes no AP of it.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.boxes.samplers.ohem import OHEMSamplerConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig


@frozen(kw_only=True)
class Model(faster_rcnn.Model):
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig(
        sampler=OHEMSamplerConfig(num=512, pos_fraction=0.25)
    )


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: Model = Model()
