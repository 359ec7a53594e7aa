"""Conditional DETR, ResNet-50, 50 epochs on COCO.

Paper: Meng et al., 2021, https://arxiv.org/abs/2108.06152
Reference: MMDetection's conditional_detr/conditional-detr_r50_8xb2-50e_coco, 40.9 box AP.
"""

from __future__ import annotations

from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.conditional_detr import ConditionalDETRConfig
from detcfg.experiments import detr
from detcfg.heads.query.conditional_detr_decoder import (
    ConditionalDetrTransformerDecoderConfig,
    ConditionalDetrTransformerDecoderLayerConfig,
)
from detcfg.heads.query.detr_decoder import QueryDecoderConfig
from detcfg.heads.query.detr_encoder import DetrTransformerEncoderConfig
from detcfg.layers.conditional_attention import ConditionalAttentionConfig
from detcfg.necks.base import NeckConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.schedules import MultiStepConfig

BASE = detr.Model()
ATTENTION = ConditionalAttentionConfig(attn_drop=0.1)


@frozen(kw_only=True)
class Model(ConditionalDETRConfig):
    num_queries: int = 300
    data_preprocessor: DetDataPreprocessorConfig = BASE.data_preprocessor
    backbone: BackboneConfig = BASE.backbone
    neck: NeckConfig | None = BASE.neck
    encoder: DetrTransformerEncoderConfig = BASE.encoder
    decoder: QueryDecoderConfig = ConditionalDetrTransformerDecoderConfig(
        layer_cfg=ConditionalDetrTransformerDecoderLayerConfig(
            self_attn_cfg=ATTENTION, cross_attn_cfg=ATTENTION, ffn_cfg=detr.FFN
        )
    )


@frozen(kw_only=True)
class Experiment(detr.Experiment):
    model: ConditionalDETRConfig = Model()
    trainer: TrainerConfig = evolve(
        detr.Experiment().trainer, epochs=50, schedule=MultiStepConfig(milestones=(40,), warmup_iters=0)
    )
