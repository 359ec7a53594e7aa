"""DETR, ResNet-50, 150 epochs on COCO.

Paper: Carion et al., 2020, https://arxiv.org/abs/2005.12872
Reference: MMDetection's detr/detr_r50_8xb2-150e_coco, 39.9 box AP.
"""

from __future__ import annotations

from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.data.config import DataConfig
from detcfg.data.transforms import (
    ComposeConfig,
    RandomChoiceConfig,
    RandomChoiceResizeConfig,
    RandomCropConfig,
    RandomFlipConfig,
)
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.detr import DETRConfig
from detcfg.experiment import ExperimentConfig
from detcfg.experiments import faster_rcnn
from detcfg.heads.query.detr_decoder import (
    DetrTransformerDecoderConfig,
    DetrTransformerDecoderLayerConfig,
    QueryDecoderConfig,
)
from detcfg.heads.query.detr_encoder import DetrTransformerEncoderConfig, DetrTransformerEncoderLayerConfig
from detcfg.layers.ffn import FFNConfig
from detcfg.layers.multihead_attention import MultiheadAttentionConfig
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.channel_mapper import ChannelMapperConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig
from detcfg.recipe.schedules import MultiStepConfig

ATTENTION = MultiheadAttentionConfig(dropout=0.1)
FFN = FFNConfig(feedforward_channels=2048, ffn_drop=0.1)
RESIZE = RandomChoiceResizeConfig(scales=tuple((edge, 1333) for edge in range(480, 801, 32)))
CROP = ComposeConfig(
    transforms=(
        RandomChoiceResizeConfig(scales=tuple((edge, 1333) for edge in (400, 500, 600))),
        RandomCropConfig(crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True),
        RESIZE,
    )
)


@frozen(kw_only=True)
class Model(DETRConfig):
    data_preprocessor: DetDataPreprocessorConfig = DetDataPreprocessorConfig(pad_size_divisor=1)
    backbone: BackboneConfig = ResNetConfig(
        depth=50,
        frozen_stages=1,
        out_indices=(3,),
        norm_cfg=BNConfig(requires_grad=False),
        pretrained="ResNet50_Weights.IMAGENET1K_V1",
    )
    neck: NeckConfig | None = ChannelMapperConfig(kernel_size=1, act_cfg=None)
    encoder: DetrTransformerEncoderConfig = DetrTransformerEncoderConfig(
        layer_cfg=DetrTransformerEncoderLayerConfig(self_attn_cfg=ATTENTION, ffn_cfg=FFN)
    )
    decoder: QueryDecoderConfig = DetrTransformerDecoderConfig(
        layer_cfg=DetrTransformerDecoderLayerConfig(
            self_attn_cfg=ATTENTION, cross_attn_cfg=ATTENTION, ffn_cfg=FFN
        )
    )


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: DETRConfig = Model()
    data: DataConfig = evolve(
        faster_rcnn.Experiment().data,
        train_transforms=(RandomFlipConfig(), RandomChoiceConfig(transforms=(RESIZE, CROP))),
    )
    trainer: TrainerConfig = TrainerConfig(
        epochs=150,
        optimizer=AdamWConfig(
            lr=1e-4,
            weight_decay=1e-4,
            paramwise_cfg=ParamwiseConfig(custom_keys=(CustomKeyConfig(key="backbone", lr_mult=0.1),)),
        ),
        schedule=MultiStepConfig(milestones=(100,), warmup_iters=0),
        clip_grad=ClipGradConfig(max_norm=0.1),
        base_batch_size=16,
    )
