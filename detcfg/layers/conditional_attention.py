"""Attention whose content and positions have projections of their own (mmdet/models/layers/transformer/utils.py).

Shapes: B images, Q queries, N keys, C channels, h heads.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import Config, ConfigError, derived, is_unset
from detcfg.config.ranges import PositiveInt, ProperFraction


@frozen(kw_only=True)
class ConditionalAttentionConfig(Config):
    """Conditional DETR's attention (Meng et al., 2021, https://arxiv.org/abs/2108.06152)."""

    embed_dims: PositiveInt = derived()
    """C."""
    num_heads: PositiveInt = 8
    """h, a divisor of `embed_dims`."""
    attn_drop: ProperFraction = 0.0
    """Probability that a weight of the attention is left out in training."""
    proj_drop: ProperFraction = 0.0
    """Probability that a value of its result is left out in training."""

    def wired(self) -> Self:
        if not is_unset(self.embed_dims) and self.embed_dims % self.num_heads:
            raise ConfigError(
                f"num_heads is {self.num_heads}, which does not divide embed_dims, {self.embed_dims}. Choose a divisor."
            )
        return super().wired()


class ConditionalAttention(nn.Module):
    """What both attentions share. Positions are added to what looks and is looked at; the result to the queries.

    Args:
        config: Its settings.
        query_pos: Whether the queries' positions count.
    """

    def __init__(self, config: ConditionalAttentionConfig, *, query_pos: bool = True) -> None:
        super().__init__()
        dims = config.embed_dims
        self.num_heads, self.attn_drop = config.num_heads, config.attn_drop
        self.qcontent_proj = nn.Linear(dims, dims)
        self.qpos_proj = nn.Linear(dims, dims) if query_pos else None
        self.kcontent_proj, self.kpos_proj = nn.Linear(dims, dims), nn.Linear(dims, dims)
        self.v_proj, self.out_proj = nn.Linear(dims, dims), nn.Linear(dims, dims)
        self.proj_drop = nn.Dropout(config.proj_drop)
        nn.init.zeros_(self.out_proj.bias)

    def by_head(self, x: Tensor) -> Tensor:
        """(B, h, N, C / h) of (B, N, C)."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def attend(self, query: Tensor, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None) -> Tensor:
        """The queries (B, Q, C) with what they see added.

        Args:
            query: (B, Q, C).
            q: (B, h, Q, d), of any d.
            k: (B, h, N, d).
            v: (B, h, N, C / h).
            padding: (B, N) bool, True where a key may not be looked at; None: all may.
        """
        seen = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if padding is None else ~padding[:, None, None],
            dropout_p=self.attn_drop if self.training else 0.0,
        )
        out: Tensor = query + self.proj_drop(self.out_proj(seen.transpose(1, 2).flatten(2)))
        return out


class ConditionalSelfAttention(ConditionalAttention):
    """Queries look at each other."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(B, Q, C) of the queries and their positions, (B, Q, C) each."""
        assert self.qpos_proj is not None
        q = self.qcontent_proj(x) + self.qpos_proj(positions)
        k = self.kcontent_proj(x) + self.kpos_proj(positions)
        return self.attend(x, self.by_head(q), self.by_head(k), self.by_head(self.v_proj(x)), None)


class ConditionalCrossAttention(ConditionalAttention):
    """Queries look at cells: by content, and beside it by the waves of a point.

    In the first layer, where queries have no content yet, content has the positions added.
    """

    def __init__(self, config: ConditionalAttentionConfig, *, query_pos: bool) -> None:
        super().__init__(config, query_pos=query_pos)
        self.qpos_sine_proj = nn.Linear(config.embed_dims, config.embed_dims)

    def forward(
        self,
        x: Tensor,
        key: Tensor,
        *,
        query_pos: Tensor,
        query_sine: Tensor,
        key_pos: Tensor,
        padding: Tensor | None,
    ) -> Tensor:
        """(B, Q, C).

        Args:
            x: (B, Q, C).
            key: (B, N, C), the values too.
            query_pos: (B, Q, C).
            query_sine: (B, Q, C), the waves of each query's point.
            key_pos: (B, N, C).
            padding: (B, N) bool, True where a key may not be looked at; None: all may.
        """
        q, k, k_pos = self.qcontent_proj(x), self.kcontent_proj(key), self.kpos_proj(key_pos)
        if self.qpos_proj is not None:
            q, k = q + self.qpos_proj(query_pos), k + k_pos
        q = torch.cat([self.by_head(q), self.by_head(self.qpos_sine_proj(query_sine))], dim=-1)
        k = torch.cat([self.by_head(k), self.by_head(k_pos)], dim=-1)
        return self.attend(x, q, k, self.by_head(self.v_proj(key)), padding)
