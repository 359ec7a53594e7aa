"""DETR's encoder: cells of a map look at each other (mmdet/models/layers/transformer/detr_layers.py).

Shapes: B images, N cells, C channels.
"""

from __future__ import annotations

from typing import Self

from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig, derived, fill
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.layers.ffn import FFNConfig
from detcfg.layers.multihead_attention import MultiheadAttentionConfig
from detcfg.layers.norm import LNConfig, NormConfig


@frozen(kw_only=True)
class DetrTransformerEncoderLayerConfig(ModuleConfig):
    """Self-attention and a feed-forward network, each normalised after its shortcut."""

    embed_dims: PositiveInt = derived()
    """C."""
    self_attn_cfg: MultiheadAttentionConfig = MultiheadAttentionConfig()
    """The attention between cells."""
    ffn_cfg: FFNConfig = FFNConfig()
    """The feed-forward network."""
    norm_cfg: NormConfig = LNConfig()
    """The norm after each of the two."""

    def wired(self) -> Self:
        wired = super().wired()
        dims = wired.embed_dims
        return evolve(
            wired,
            self_attn_cfg=fill(wired.self_attn_cfg, "embed_dims", embed_dims=dims),
            ffn_cfg=fill(wired.ffn_cfg, "embed_dims", embed_dims=dims),
        )

    def build(self) -> DetrTransformerEncoderLayer:
        return DetrTransformerEncoderLayer(self.resolved())


class DetrTransformerEncoderLayer(nn.Module):
    """The layer of `DetrTransformerEncoderLayerConfig`."""

    def __init__(self, config: DetrTransformerEncoderLayerConfig) -> None:
        super().__init__()
        self.self_attn, self.ffn = config.self_attn_cfg.build(), config.ffn_cfg.build()
        self.norms = nn.ModuleList(config.norm_cfg.build_for(config.embed_dims) for _ in range(2))

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        """(B, N, C), of arguments as of `DetrTransformerEncoder`."""
        x = self.norms[0](self.self_attn(x, x, query_pos=positions, key_pos=positions, padding=padding))
        out: Tensor = self.norms[1](self.ffn(x))
        return out


@frozen(kw_only=True)
class DetrTransformerEncoderConfig(ModuleConfig):
    """Layers of self-attention (DETR, Carion et al., 2020, https://arxiv.org/abs/2005.12872)."""

    embed_dims: PositiveInt = derived()
    """C."""
    num_layers: NumLayers = 6
    """Layers."""
    layer_cfg: DetrTransformerEncoderLayerConfig = DetrTransformerEncoderLayerConfig()
    """Each of them."""

    def wired(self) -> Self:
        wired = super().wired()
        return evolve(wired, layer_cfg=fill(wired.layer_cfg, "embed_dims", embed_dims=wired.embed_dims))

    def build(self) -> DetrTransformerEncoder:
        return DetrTransformerEncoder(self.resolved())


class DetrTransformerEncoder(nn.Module):
    """The layers in turn."""

    def __init__(self, config: DetrTransformerEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(config.layer_cfg.build() for _ in range(config.num_layers))
        init_matrices(self)

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        """(B, N, C).

        Args:
            x: (B, N, C).
            positions: (B, N, C), added where cells look.
            padding: (B, N) bool, True beyond the image; None: nowhere.
        """
        for layer in self.layers:
            x = layer(x, positions, padding)
        return x


def init_matrices(module: nn.Module) -> None:
    """Every matrix anew as by Glorot and Bengio (2010), as the DETR family begins."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
