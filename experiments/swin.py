"""Mask R-CNN on Swin-T with a feature pyramid, 12 epochs on COCO.

Paper: Liu et al., 2021, https://arxiv.org/abs/2103.14030
Reference: MMDetection's swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco, 42.7 box AP and 39.3 mask AP.
Its backbone starts from swin_tiny_patch4_window7_224.pth of https://github.com/SwinTransformer/storage:
give `pretrained` the path of it.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.swin import SwinTransformerConfig
from detcfg.experiments import mask_rcnn
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(mask_rcnn.Model):
    backbone: BackboneConfig = SwinTransformerConfig(drop_path_rate=0.2)


@frozen(kw_only=True)
class Experiment(mask_rcnn.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(
        optimizer=AdamWConfig(
            lr=1e-4,
            weight_decay=0.05,
            paramwise_cfg=ParamwiseConfig(
                custom_keys=(
                    CustomKeyConfig(key="absolute_pos_embed", decay_mult=0.0),
                    CustomKeyConfig(key="relative_position_bias_table", decay_mult=0.0),
                    CustomKeyConfig(key="norm", decay_mult=0.0),
                )
            ),
        ),
        schedule=MultiStepConfig(warmup_iters=1000),
    )
