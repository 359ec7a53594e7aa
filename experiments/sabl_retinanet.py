"""RetinaNet with side-aware boundary localisation, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2019, https://arxiv.org/abs/1912.04260
Reference: MMDetection's sabl/sabl-retinanet_r50_fpn_1x_coco, 37.7 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.sabl_retina_head import SABLRetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = SABLRetinaHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
