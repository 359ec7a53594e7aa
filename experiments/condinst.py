"""CondInst, ResNet-50-FPN, 90,000 iterations (about 12 epochs) on COCO.

Paper: Tian et al., 2020, https://arxiv.org/abs/2003.05664
Reference: MMDetection's condinst/condinst_r50_fpn_ms-poly-90k_coco_instance, 39.8 box AP, 36.0 mask AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.condinst import CondInstConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.instance.condinst_bbox_head import CondInstBboxHeadConfig
from detcfg.heads.instance.condinst_mask_head import CondInstMaskHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig


@frozen(kw_only=True)
class Model(CondInstConfig):
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, pretrained="ResNet50_Weights.IMAGENET1K_V1"
    )
    neck: NeckConfig | None = FPNConfig(
        start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True
    )
    bbox_head: CondInstBboxHeadConfig = CondInstBboxHeadConfig(conv_bias=True)
    mask_head: CondInstMaskHeadConfig = CondInstMaskHeadConfig(max_masks_to_train=300)


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: CondInstConfig = Model()
    data: DataConfig = faster_rcnn.Experiment().data
    trainer: TrainerConfig = TrainerConfig(optimizer=SGDConfig(lr=0.01), save_best="segm_AP")
