"""D-FINE L, HGNetV2-B4, 80 epochs on COCO.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Reference: Peterande/D-FINE's configs/dfine/dfine_hgnetv2_l_coco.yml, 54.0 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hgnetv2 import HGNetV2Config
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiments import faster_rcnn
from detcfg.layers.frozen_bn import FrozenBNConfig


@frozen(kw_only=True)
class Model(DFINEConfig):
    backbone: BackboneConfig = HGNetV2Config(arch="B4", frozen_stages=0, norm_cfg=FrozenBNConfig())


@frozen(kw_only=True)
class Experiment(faster_rcnn.Experiment):
    model: DFINEConfig = Model()
