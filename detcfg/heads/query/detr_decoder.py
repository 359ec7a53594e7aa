"""DETR's decoder: queries look at each other and at the image (mmdet/models/layers/transformer/detr_layers.py).

Shapes: B images, Q queries, N cells, C channels, L layers.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig, derived, fill
from detcfg.config.ranges import OneOrMoreLayers, PositiveInt
from detcfg.heads.query.detr_encoder import init_matrices
from detcfg.layers.ffn import FFNConfig
from detcfg.layers.multihead_attention import MultiheadAttentionConfig
from detcfg.layers.norm import LNConfig, NormConfig


@frozen(eq=False)
class Cells:
    """What queries look at: the encoder's cells."""

    values: Tensor
    """(B, N, C)."""
    positions: Tensor
    """(B, N, C)."""
    padding: Tensor | None
    """(B, N) bool, True beyond the image; None: nowhere."""


class Decoded(NamedTuple):
    """What a decoder gives to the head."""

    states: Tensor
    """(L, B, Q, C): the normalised queries after each layer."""
    references: Tensor | None
    """(B, Q, 2): the point (x, y), in shares of the image, from which a query's centre counts; None: the corner."""


@frozen(kw_only=True)
class QueryDecoderConfig(ModuleConfig):
    """A config that builds a `QueryDecoder`."""

    embed_dims: PositiveInt = derived()
    """C."""
    num_layers: OneOrMoreLayers = 6
    """L."""
    post_norm_cfg: NormConfig = LNConfig()
    """The norm of what each layer gives to the head; layers share it."""

    @abstractmethod
    def build(self) -> QueryDecoder: ...


class QueryDecoder(nn.Module):
    """Layers through which queries go. They begin as zeros."""

    def forward(self, positions: Tensor, cells: Cells) -> Decoded:
        """The queries after each layer.

        Args:
            positions: (B, Q, C), the trained position of each query.
            cells: What they look at.
        """
        raise NotImplementedError


@frozen(kw_only=True)
class DetrTransformerDecoderLayerConfig(ModuleConfig):
    """Self-attention, attention to the image and a feed-forward network, each normalised after its shortcut."""

    embed_dims: PositiveInt = derived()
    """C."""
    self_attn_cfg: MultiheadAttentionConfig = MultiheadAttentionConfig()
    """The attention between queries."""
    cross_attn_cfg: MultiheadAttentionConfig = MultiheadAttentionConfig()
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

    def build(self) -> DetrTransformerDecoderLayer:
        return DetrTransformerDecoderLayer(self.resolved())


class DetrTransformerDecoderLayer(nn.Module):
    """The layer of `DetrTransformerDecoderLayerConfig`."""

    def __init__(self, config: DetrTransformerDecoderLayerConfig) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = config.self_attn_cfg.build(), config.cross_attn_cfg.build()
        self.ffn = config.ffn_cfg.build()
        self.norms = nn.ModuleList(config.norm_cfg.build_for(config.embed_dims) for _ in range(3))

    def forward(self, x: Tensor, positions: Tensor, cells: Cells) -> Tensor:
        """The queries (B, Q, C) of the next layer.

        Args:
            x: (B, Q, C).
            positions: (B, Q, C), added where queries look.
            cells: What they look at.
        """
        x = self.norms[0](self.self_attn(x, x, query_pos=positions, key_pos=positions))
        read = self.cross_attn(
            x, cells.values, query_pos=positions, key_pos=cells.positions, padding=cells.padding
        )
        out: Tensor = self.norms[2](self.ffn(self.norms[1](read)))
        return out


@frozen(kw_only=True)
class DetrTransformerDecoderConfig(QueryDecoderConfig):
    """Layers of attention between queries and to the image (Carion et al., 2020, https://arxiv.org/abs/2005.12872)."""

    layer_cfg: DetrTransformerDecoderLayerConfig = DetrTransformerDecoderLayerConfig()
    """Each layer."""

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, layer_cfg=fill(wired.layer_cfg, "embed_dims", embed_dims=wired.embed_dims))

    def build(self) -> DetrTransformerDecoder:
        return DetrTransformerDecoder(self.resolved())


class DetrTransformerDecoder(QueryDecoder):
    """The layers in turn."""

    def __init__(self, config: DetrTransformerDecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(config.layer_cfg.build() for _ in range(config.num_layers))
        self.post_norm = config.post_norm_cfg.build_for(config.embed_dims)
        init_matrices(self)

    def forward(self, positions: Tensor, cells: Cells) -> Decoded:
        x, states = torch.zeros_like(positions), list[Tensor]()
        for layer in self.layers:
            x = layer(x, positions, cells)
            states.append(self.post_norm(x))
        return Decoded(torch.stack(states), None)
