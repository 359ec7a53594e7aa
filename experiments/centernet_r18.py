"""CenterNet, ResNet-18 with deformable convolutions, crops of 512 pixels, 140 epochs on COCO.

Paper: Zhou et al., 2019, https://arxiv.org/abs/1904.07850
Reference: MMDetection's centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco, 29.5 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.centernet_head import CenterNetHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.ct_resnet_neck import CTResNetNeckConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    backbone: BackboneConfig = ResNetConfig(
        depth=18, norm_eval=False, pretrained="ResNet18_Weights.IMAGENET1K_V1"
    )
    neck: NeckConfig | None = CTResNetNeckConfig()
    bbox_head: DenseHeadConfig = CenterNetHeadConfig()


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        epochs=140,
        schedule=MultiStepConfig(warmup_iters=1000, milestones=(90, 120)),
        clip_grad=ClipGradConfig(),
        base_batch_size=128,
    )
