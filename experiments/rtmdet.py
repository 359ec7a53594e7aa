"""RTMDet-tiny, 300 epochs on COCO.

Paper: Lyu et al., 2022, https://arxiv.org/abs/2212.07784
Reference: MMDetection's rtmdet/rtmdet_tiny_8xb32-300e_coco, 40.9 box AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.cspnext import CSPNeXtConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import retinanet
from detcfg.heads.anchor_free.rtmdet_head import RTMDetSepBNHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.norm import SyncBNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.cspnext_pafpn import CSPNeXtPAFPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, ParamwiseConfig
from detcfg.recipe.schedules import CosineConfig

NORM = SyncBNConfig()


@frozen(kw_only=True)
class Model(retinanet.Model):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(
        mean=(103.53, 116.28, 123.675),
        std=(57.375, 57.12, 58.395),
        channel_order="bgr",
        pad_size_divisor=1,
    )
    backbone: BackboneConfig = CSPNeXtConfig(deepen_factor=0.167, widen_factor=0.375, norm_cfg=NORM)
    neck: NeckConfig | None = CSPNeXtPAFPNConfig(out_channels=96, num_csp_blocks=1, norm_cfg=NORM)
    bbox_head: DenseHeadConfig = RTMDetSepBNHeadConfig(
        feat_channels=96, stacked_convs=2, with_objectness=False, norm_cfg=NORM
    )


@frozen(kw_only=True)
class Experiment(retinanet.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        epochs=300,
        optimizer=AdamWConfig(
            lr=0.004,
            weight_decay=0.05,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
        schedule=CosineConfig(start_factor=1e-5, warmup_iters=1000, begin=150, eta_min_ratio=0.05),
        ema=EMAConfig(momentum=0.0002),
        base_batch_size=256,
        val_interval=10,
    )
