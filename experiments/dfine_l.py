"""D-FINE L, HGNetV2-B4, 80 epochs on COCO.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Reference: Peterande/D-FINE's configs/dfine/dfine_hgnetv2_l_coco.yml, 54.0 box AP.

Unlike the reference, images keep their aspect ratio, and sizes are drawn for each image rather than for a batch. Strong
augmentation and the drawing of sizes stop 8 epochs before the end.
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
    RandomChoiceResizeConfig,
    RandomFlipConfig,
    ResizeConfig,
    TransformConfig,
)
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.layers.frozen_bn import FrozenBNConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig
from detcfg.recipe.schedules import ConstantConfig

SIZE = 640
STRONG: tuple[TransformConfig, ...] = (
    PhotoMetricDistortionConfig(),
    ExpandConfig(mean=(0.0, 0.0, 0.0)),
    MinIoURandomCropConfig(),
)
RESIZE = ResizeConfig(scale=(SIZE, SIZE))


def data(switch_epoch: int, repeats: int) -> DataConfig:
    """COCO with strong augmentation and drawn sizes up to an epoch.

    Args:
        switch_epoch: After so many epochs both stop.
        repeats: How often 640 stands among the sizes from 480 to 800; 0: it is the only one.
    """
    edges = (*range(480, SIZE, 32), *(SIZE,) * repeats, *range(672, 801, 32))
    resize = RandomChoiceResizeConfig(scales=tuple((edge, edge) for edge in edges)) if repeats else RESIZE
    return evolve(
        faster_rcnn.Experiment().data,
        train_transforms=(*STRONG, RandomFlipConfig(), resize, FilterAnnotationsConfig()),
        switch_epoch=switch_epoch,
        switch_transforms=(RandomFlipConfig(), RESIZE, FilterAnnotationsConfig()),
        val_transforms=(RESIZE,),
        batch_size=4,
    )


@frozen(kw_only=True)
class Model(DFINEConfig):
    backbone: BackboneConfig = HGNetV2Config(arch="B4", frozen_stages=0, norm_cfg=FrozenBNConfig())


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: DFINEConfig = Model()
    data: DataConfig = data(switch_epoch=72, repeats=4)
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
