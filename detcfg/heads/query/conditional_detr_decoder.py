"""Conditional DETR's decoder (mmdet/models/layers/transformer/conditional_detr_layers.py).

Shapes: B images, Q queries, N cells, C channels, L layers.
"""

from __future__ import annotations

from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import Config, derived, fill
from detcfg.config.ranges import PositiveInt
from detcfg.heads.query.detr_decoder import Cells, Decoded, QueryDecoder, QueryDecoderConfig
from detcfg.heads.query.detr_encoder import init_matrices
from detcfg.layers.conditional_attention import (
    ConditionalAttentionConfig,
    ConditionalCrossAttention,
    ConditionalSelfAttention,
)
from detcfg.layers.ffn import FFNConfig
from detcfg.layers.mlp import MLP
from detcfg.layers.norm import LNConfig, NormConfig
from detcfg.layers.positional_encoding import waves

FULL_TURN = 2 * torch.pi
"""What the image's sides are in the waves of points."""


@frozen(kw_only=True)
class ConditionalDetrTransformerDecoderLayerConfig(Config):
    """Self-attention, attention to the image and a feed-forward network, each normalised after its shortcut."""

    embed_dims: PositiveInt = derived()
    """C."""
    self_attn_cfg: ConditionalAttentionConfig = ConditionalAttentionConfig()
    """The attention between queries."""
    cross_attn_cfg: ConditionalAttentionConfig = ConditionalAttentionConfig()
    """The attention of queries to the image."""
    ffn_cfg: FFNConfig = FFNConfig()
    """The feed-forward network."""
    norm_cfg: NormConfig = LNConfig()
    """The norm after each of the three."""

    def wired(self) -> Self:
        wired = super().wired()
        dims = wired.embed_dims
        return evolve(
            wired,
            self_attn_cfg=fill(wired.self_attn_cfg, "embed_dims", embed_dims=dims),
            cross_attn_cfg=fill(wired.cross_attn_cfg, "embed_dims", embed_dims=dims),
            ffn_cfg=fill(wired.ffn_cfg, "embed_dims", embed_dims=dims),
        )


class ConditionalDetrTransformerDecoderLayer(nn.Module):
    """The layer of `ConditionalDetrTransformerDecoderLayerConfig`.

    Args:
        config: Its settings.
        first: Whether it is the first one, whose queries have no content yet.
    """

    def __init__(self, config: ConditionalDetrTransformerDecoderLayerConfig, *, first: bool) -> None:
        super().__init__()
        self.self_attn = ConditionalSelfAttention(config.self_attn_cfg)
        self.cross_attn = ConditionalCrossAttention(config.cross_attn_cfg, query_pos=first)
        self.ffn = config.ffn_cfg.build()
        self.norms = nn.ModuleList(config.norm_cfg.build_for(config.embed_dims) for _ in range(3))

    def forward(self, x: Tensor, positions: Tensor, sine: Tensor, cells: Cells) -> Tensor:
        """The queries (B, Q, C) of the next layer.

        Args:
            x: (B, Q, C).
            positions: (B, Q, C), the trained positions.
            sine: (B, Q, C), the waves of each query's point.
            cells: What they look at.
        """
        x = self.norms[0](self.self_attn(x, positions))
        read = self.cross_attn(
            x,
            cells.values,
            query_pos=positions,
            query_sine=sine,
            key_pos=cells.positions,
            padding=cells.padding,
        )
        out: Tensor = self.norms[2](self.ffn(self.norms[1](read)))
        return out


@frozen(kw_only=True)
class ConditionalDetrTransformerDecoderConfig(QueryDecoderConfig):
    """Each query looks around a point of its own (Meng et al., 2021, https://arxiv.org/abs/2108.06152)."""

    layer_cfg: ConditionalDetrTransformerDecoderLayerConfig = ConditionalDetrTransformerDecoderLayerConfig()
    """Each layer."""

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, layer_cfg=fill(wired.layer_cfg, "embed_dims", embed_dims=wired.embed_dims))

    def build(self) -> ConditionalDetrTransformerDecoder:
        return ConditionalDetrTransformerDecoder(self.resolved())


class ConditionalDetrTransformerDecoder(QueryDecoder):
    """The layers in turn. A query's content scales the waves of its point, from the second layer on."""

    def __init__(self, config: ConditionalDetrTransformerDecoderConfig) -> None:
        super().__init__()
        dims = config.embed_dims
        self.layers = nn.ModuleList(
            ConditionalDetrTransformerDecoderLayer(config.layer_cfg, first=index == 0)
            for index in range(config.num_layers)
        )
        self.post_norm = config.post_norm_cfg.build_for(dims)
        # The first layer scales nothing, so that a single one leaves it without gradients.
        self.query_scale = MLP(dims, dims, dims, 2).requires_grad_(config.num_layers > 1)
        self.ref_point_head = MLP(dims, dims, 2, 2)
        init_matrices(self)

    def forward(self, positions: Tensor, cells: Cells) -> Decoded:
        references = self.ref_point_head(positions).sigmoid()
        sine = waves(references.flip(-1) * FULL_TURN, positions.shape[-1] // 2)
        x, states = torch.zeros_like(positions), list[Tensor]()
        for index, layer in enumerate(self.layers):
            x = layer(x, positions, sine * self.query_scale(x) if index else sine, cells)
            states.append(self.post_norm(x))
        return Decoded(torch.stack(states), references)
