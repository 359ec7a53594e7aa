"""YOLOX-tiny, 300 epochs on COCO.

Paper: Ge et al., 2021, https://arxiv.org/abs/2107.08430
Reference: MMDetection's yolox/yolox_tiny_8xb8-300e_coco, 32.0 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.csp_darknet import CSPDarknetConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.batch_augments import BatchSyncRandomResizeConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.yolox_head import YOLOXHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.yolox_pafpn import YOLOXPAFPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import CosineConfig


@frozen(kw_only=True)
class Model(retinanet.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        channel_order="bgr",
        batch_augments=(BatchSyncRandomResizeConfig(random_size_range=(320, 640)),),
    )
    backbone: BackboneConfig = CSPDarknetConfig(deepen_factor=0.33, widen_factor=0.375)
    neck: NeckConfig | None = YOLOXPAFPNConfig(out_channels=96, num_csp_blocks=1)
    bbox_head: DenseHeadConfig = YOLOXHeadConfig(feat_channels=96, l1_from_epoch=285)


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        epochs=300,
        optimizer=SGDConfig(
            lr=0.01,
            nesterov=True,
            weight_decay=5e-4,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
        schedule=CosineConfig(eta_min_ratio=0.05),
        ema=EMAConfig(momentum=0.0001),
        base_batch_size=64,
        val_interval=10,
    )
