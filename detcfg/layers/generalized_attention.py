"""Attention by content and by relative position (mmcv/cnn/bricks/generalized_attention.py).

Shapes: (B, C, H, W) to the same; a heads of d channels; h x w queries, k x l keys.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge
from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.config.ranges import IntOrOff, Or, PositiveInt
from detcfg.layers.init import kaiming_init
from detcfg.layers.plugin import PluginLayerConfig

WAVE_LENGTH = 1000
"""The longest wave of the embedding of positions, in pixels."""


@frozen(kw_only=True)
class GeneralizedAttentionConfig(PluginLayerConfig):
    """The module of an empirical study (Zhu et al., 2019, https://arxiv.org/abs/1904.05873)."""

    abbr: ClassVar[str] = "gen_attention_block"
    """Its name in MMDetection's state dicts."""

    spatial_range: IntOrOff = -1
    """Greatest distance of a key from its query, in rows and in columns of the map; -1: any."""
    num_heads: PositiveInt = 9
    """Heads of the attention."""
    position_embedding_dim: Annotated[int, Ge(1), Or(-1, "as many as channels")] = -1
    """Channels of the embedding of positions; -1: those of the input."""
    position_magnitude: PositiveInt = 1
    """Multiplies the relative positions before they are embedded."""
    kv_stride: PositiveInt = 2
    """Every how many rows and columns there is a key."""
    q_stride: PositiveInt = 1
    """Every how many rows and columns there is a query."""
    attention_type: str = field(default="1111", validator=validators.matches_re("[01]{4}"))
    """Which terms the energy has, "1" or "0" for each: query and key content; query content and relative
    position; key content; relative position."""

    def wired(self) -> Self:
        if self.attention_type == "0000":
            raise ConfigError('attention_type is "0000", but attention needs at least one term.')
        return self

    def build_for(self, channels: int) -> GeneralizedAttention:
        return GeneralizedAttention(self.resolved(), channels)


class GeneralizedAttention(nn.Module):
    """`x + gamma * proj_conv(softmax(energy) value)`, and gamma starts at 0."""

    def __init__(self, config: GeneralizedAttentionConfig, channels: int) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.spatial_range = config.spatial_range
        self.kv_stride, self.q_stride = config.kv_stride, config.q_stride
        self.position_magnitude = config.position_magnitude
        self.position_embedding_dim = (
            config.position_embedding_dim if config.position_embedding_dim > 0 else channels
        )
        self.terms = tuple(term == "1" for term in config.attention_type)
        both, query_position, key_only, position_only = self.terms
        inner = channels // config.num_heads * config.num_heads
        if both or query_position:
            self.query_conv = nn.Conv2d(channels, inner, 1, bias=False)
        if both or key_only:
            self.key_conv = nn.Conv2d(channels, inner, 1, bias=False)
        self.value_conv = nn.Conv2d(channels, inner, 1, bias=False)
        if query_position or position_only:
            self.appr_geom_fc_x = nn.Linear(self.position_embedding_dim // 2, inner, bias=False)
            self.appr_geom_fc_y = nn.Linear(self.position_embedding_dim // 2, inner, bias=False)
        self.appr_bias = self._bias(inner) if key_only else None
        self.geom_bias = self._bias(inner) if position_only else None
        self.proj_conv = nn.Conv2d(inner, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                kaiming_init(layer, a=1, mode="fan_in", nonlinearity="leaky_relu", distribution="uniform")

    def forward(self, x: Tensor) -> Tensor:
        queries = x[..., :: self.q_stride, :: self.q_stride]
        keys = x[..., :: self.kv_stride, :: self.kv_stride]
        sizes = (*queries.shape[2:], *keys.shape[2:])
        energy = self._energy(queries, keys, sizes)  # (B or 1, a, h or 1, w or 1, k, l)
        if self.spatial_range >= 0:
            energy = energy.masked_fill(self._too_far(sizes, x.device), -torch.inf)
        attention = energy.flatten(4).softmax(dim=-1)
        value = self._split(self.value_conv(keys)).flatten(3)
        mixed = torch.einsum("bahwn,badn->badhw", attention.expand(len(x), -1, -1, -1, -1), value)
        out = self.proj_conv(mixed.flatten(1, 2))
        if self.q_stride > 1:
            out = F.interpolate(out, size=x.shape[2:], mode="bilinear", align_corners=False)
        total: Tensor = x + self.gamma * out
        return total

    def _energy(self, queries: Tensor, keys: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """The attention logits, with dimensions of 1 along which they are constant."""
        both, query_position, key_only, position_only = self.terms
        query = self._split(self.query_conv(queries)) if both or query_position else None
        energy = queries.new_zeros(1, 1, 1, 1, 1, 1)
        if both or key_only:
            key = self._split(self.key_conv(keys))
            content = self._query(query if both else None, self.appr_bias)
            energy = energy + torch.einsum("badhw,badkl->bahwkl", content, key)
        if query_position or position_only:
            position = self._query(query if query_position else None, self.geom_bias)
            x, y = self._positions(sizes, queries)
            energy = energy + self._along(self._for_rows(position), y, "h")[..., None]
            energy = energy + self._along(position, x, "w")[..., None, :]
        return energy

    def _split(self, x: Tensor) -> Tensor:
        """(B, a * d, h, w) to (B, a, d, h, w)."""
        return x.view(len(x), self.heads, x.shape[1] // self.heads, *x.shape[2:])

    def _query(self, query: Tensor | None, bias: Tensor | None) -> Tensor:
        """The sum of what is there: (B, a, d, h, w) and (a * d,)."""
        if bias is None:
            assert query is not None
            return query
        spread = bias.view(1, self.heads, -1, 1, 1)
        return spread if query is None else query + spread

    def _for_rows(self, query: Tensor) -> Tensor:
        """The query (B, a, d, h, w) of the term of rows.

        Where the term of position has no bias, mmcv takes it with rows and columns swapped, and released
        weights were trained so.
        """
        if self.geom_bias is not None:
            return query
        if query.shape[-1] != query.shape[-2]:
            raise ValueError(
                f'A feature map of {tuple(query.shape[-2:])} came, but attention_type "?1?0" works on square '
                'ones only. Use "?1?1".'
            )
        return query.transpose(-1, -2)

    def _along(self, query: Tensor, positions: Tensor, axis: str) -> Tensor:
        """Products of (B, a, d, h, w) and (n, m, a, d), n along one axis: (B, a, h, w, m)."""
        if query.shape[-1] == 1 == query.shape[-2]:  # the bias alone is everywhere the same
            query = query.expand(
                *query.shape[:3], *((len(positions), 1) if axis == "h" else (1, len(positions)))
            )
        return torch.einsum(f"badhw,{axis}mad->bahwm", query, positions)

    def _positions(self, sizes: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded differences of columns (w, l, a, d) and of rows (h, k, a, d)."""
        height, width, rows, columns = sizes
        x = self.appr_geom_fc_x(self._waves(width, columns, like)) / math.sqrt(2)
        y = self.appr_geom_fc_y(self._waves(height, rows, like)) / math.sqrt(2)
        return x.view(width, columns, self.heads, -1), y.view(height, rows, self.heads, -1)

    def _waves(self, count: int, kv_count: int, like: Tensor) -> Tensor:
        """(count, kv_count, D / 2): sines and cosines of the differences of positions."""
        queries = torch.arange(count, device=like.device, dtype=like.dtype) * self.q_stride
        keys = torch.arange(kv_count, device=like.device, dtype=like.dtype) * self.kv_stride
        difference = (queries[:, None, None] - keys[:, None]) * self.position_magnitude
        dim = self.position_embedding_dim
        steps = torch.arange(0, dim / 4, device=like.device, dtype=like.dtype)
        lengths = torch.pow(WAVE_LENGTH, 4 / dim * steps)
        return torch.cat([(difference / lengths).sin(), (difference / lengths).cos()], dim=-1)

    def _too_far(self, sizes: tuple[int, ...], device: torch.device) -> Tensor:
        """(h, w, k, l) bool. mmcv keeps it in the state dict, for maps of one size only."""
        height, width, rows, columns = sizes
        near_rows = self._near(height, rows, device)
        near_columns = self._near(width, columns, device)
        return ~(near_rows[:, None, :, None] & near_columns[None, :, None, :])

    def _near(self, count: int, kv_count: int, device: torch.device) -> Tensor:
        """(count, kv_count) bool: the keys within `spatial_range` of each query along one axis."""
        queries = torch.arange(count, device=device)[:, None]
        keys = torch.arange(kv_count, device=device)
        first = (queries - self.spatial_range).div(self.kv_stride, rounding_mode="floor")
        last = (queries + self.spatial_range + 1).div(self.kv_stride, rounding_mode="floor")
        return (keys >= first) & (keys <= last)

    def _bias(self, channels: int) -> nn.Parameter:
        bound = 1 / math.sqrt(channels // self.heads * 2)
        return nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
