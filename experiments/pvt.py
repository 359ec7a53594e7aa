"""RetinaNet on PVT-Tiny with a feature pyramid, 12 epochs on COCO.

Paper: Wang et al., 2021, https://arxiv.org/abs/2102.12122
Reference: MMDetection's pvt/retinanet_pvt-t_fpn_1x_coco, 36.6 box AP.
Its backbone starts from pvt_tiny.pth of https://github.com/whai362/PVT: give `pretrained` the path of it.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.pvt import PyramidVisionTransformerConfig
from detcfg.experiments import retinanet
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    backbone: BackboneConfig = PyramidVisionTransformerConfig(num_layers=(2, 2, 2, 2))


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(optimizer=AdamWConfig(lr=1e-4, weight_decay=1e-4))
