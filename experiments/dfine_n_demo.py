"""D-FINE N in small, trained on drawn scenes in minutes on two cores.

Nothing is downloaded: the scenes are `detcfg.data.demo`'s, and the weights start at random. Unlike the experiments for
COCO it has a learning rate for small batches, a decay to the end, and an average of the weights that is as quick as the training
is short.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hgnetv2 import HGNetV2Config
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.transforms import RandomFlipConfig
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiments import dfine_n
from detcfg.heads.query.dfine_transformer import DFINETransformerConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, ParamwiseConfig
from detcfg.recipe.schedules import CosineConfig


@frozen(kw_only=True)
class Model(dfine_n.Model):
    backbone: BackboneConfig = HGNetV2Config(arch="B0", use_lab=True)
    decoder: DFINETransformerConfig = evolve(
        dfine_n.Model().decoder, num_queries=40, num_points=(3, 6, 3), num_denoising=20, max_per_img=40
    )


@frozen(kw_only=True)
class Experiment(dfine_n.Experiment):
    model: DFINEConfig = Model()
    data: DataConfig = DataConfig(
        train=DemoDatasetConfig(num_images=800),
        val=DemoDatasetConfig(split="val", num_images=100),
        train_transforms=(RandomFlipConfig(),),
        val_transforms=(),
        batch_size=4,
        val_batch_size=8,
        num_workers=1,
    )
    trainer: TrainerConfig = TrainerConfig(
        epochs=14,
        optimizer=AdamWConfig(
            lr=6e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
        schedule=CosineConfig(warmup_iters=100, eta_min_ratio=0.02),
        clip_grad=ClipGradConfig(max_norm=1.0),
        ema=EMAConfig(momentum=0.01, gamma=100),
        base_batch_size=4,
        val_interval=2,
        log_interval=20,
    )
