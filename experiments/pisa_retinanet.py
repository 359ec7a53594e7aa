"""RetinaNet with prime sample attention, ResNet-50-FPN, 12 epochs on COCO.

Paper: Cao et al., 2019, https://arxiv.org/abs/1904.04821
Reference: MMDetection's pisa/retinanet-r50_fpn_pisa_1x_coco, 36.9 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.pisa_retina_head import PISARetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = PISARetinaHeadConfig(loss_bbox=SmoothL1LossConfig(beta=0.11))


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
