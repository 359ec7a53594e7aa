"""D-FINE L, HGNetV2-B4, 80 epochs on COCO.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Reference: Peterande/D-FINE's configs/dfine/dfine_hgnetv2_l_coco.yml, 54.0 box AP.

Unlike the reference, images keep their aspect ratio, sizes are drawn for each image rather than for a batch, and the strong
augmentation goes on to the end (there it stops 8 epochs before).
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hgnetv2 import HGNetV2Config
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.data.transforms import (
    ExpandConfig,
    FilterAnnotationsConfig,
    MinIoURandomCropConfig,
    PhotoMetricDistortionConfig,
    RandomFlipConfig,
    RandomResizeConfig,
    ResizeConfig,
)
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.layers.frozen_bn import FrozenBNConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig
from detcfg.recipe.schedules import ConstantConfig


@frozen(kw_only=True)
class Model(DFINEConfig):
    backbone: BackboneConfig = HGNetV2Config(arch="B4", frozen_stages=0, norm_cfg=FrozenBNConfig())


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: DFINEConfig = Model()
    data: DataConfig = evolve(
        faster_rcnn.Experiment().data,
        train_transforms=(
            PhotoMetricDistortionConfig(),
            ExpandConfig(mean=(0.0, 0.0, 0.0)),
            MinIoURandomCropConfig(),
            RandomFlipConfig(),
            RandomResizeConfig(scale=((480, 480), (800, 800))),
            FilterAnnotationsConfig(),
        ),
        val_transforms=(ResizeConfig(scale=(640, 640)),),
        batch_size=4,
    )
    trainer: TrainerConfig = TrainerConfig(
        epochs=80,
        optimizer=AdamWConfig(
            lr=2.5e-4,
            weight_decay=1.25e-4,
            paramwise_cfg=ParamwiseConfig(
                norm_decay_mult=0.0, custom_keys=(CustomKeyConfig(key="backbone", lr_mult=0.05),)
            ),
        ),
        schedule=ConstantConfig(),
        clip_grad=ClipGradConfig(max_norm=0.1),
        ema=EMAConfig(momentum=0.0001, gamma=1000),
        base_batch_size=32,
    )
