"""RetinaNet with NAS-FPN, ResNet-50, crops of 640 pixels, 50 epochs on COCO.

Paper: Ghiasi et al., 2019, https://arxiv.org/abs/1904.07392
Reference: MMDetection's nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco, 40.5 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.batch_augments import BatchFixedSizePadConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_based.retina_sepbn_head import RetinaSepBNHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.nas_fpn import NASFPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        pad_size_divisor=128, batch_augments=(BatchFixedSizePadConfig(size=(640, 640)),)
    )
    backbone: BackboneConfig = ResNetConfig(
        depth=50, frozen_stages=1, norm_eval=False, pretrained="ResNet50_Weights.IMAGENET1K_V1"
    )
    neck: NeckConfig | None = NASFPNConfig(start_level=1, norm_cfg=BNConfig())
    bbox_head: DenseHeadConfig = RetinaSepBNHeadConfig(
        assigner=MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5)
    )


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        epochs=50,
        optimizer=SGDConfig(lr=0.08, paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0)),
        schedule=MultiStepConfig(start_factor=0.1, warmup_iters=1000, milestones=(30, 40)),
        base_batch_size=64,
    )
