"""RetinaNet with guided anchors, ResNet-50-FPN, 12 epochs on COCO.

Paper: Wang et al., 2019, https://arxiv.org/abs/1901.03278
Reference: MMDetection's guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco, 36.9 box AP; this is its
sibling ga-retinanet_r50_fpn_1x_coco.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.ga_retina_head import GARetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    bbox_head: DenseHeadConfig = GARetinaHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = evolve(retinanet.Experiment().trainer, clip_grad=ClipGradConfig())
