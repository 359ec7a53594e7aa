"""Attention with positions and a shortcut (mmcv/cnn/bricks/transformer.py, MultiheadAttention).

Shapes: B images, Q queries, N keys, C channels.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, ModuleConfig, derived, is_unset
from detcfg.config.ranges import PositiveInt, ProperFraction


@frozen(kw_only=True)
class MultiheadAttentionConfig(ModuleConfig):
    """Attention of several heads (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762)."""

    embed_dims: PositiveInt = derived()
    """C: channels of queries, keys and values."""
    num_heads: PositiveInt = 8
    """Heads, a divisor of `embed_dims`."""
    dropout: ProperFraction = 0.0
    """Probability that a weight of the attention, or a value of its result, is left out in training."""

    def wired(self) -> Self:
        if not is_unset(self.embed_dims) and self.embed_dims % self.num_heads:
            raise ConfigError(
                f"num_heads is {self.num_heads}, which does not divide embed_dims, {self.embed_dims}. Choose a divisor."
            )
        return super().wired()

    def build(self) -> MultiheadAttention:
        return MultiheadAttention(self.resolved())


class MultiheadAttention(nn.Module):
    """`torch.nn.MultiheadAttention`, whose result is added to the queries."""

    def __init__(self, config: MultiheadAttentionConfig) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(
            config.embed_dims, config.num_heads, config.dropout, batch_first=True
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        *,
        query_pos: Tensor,
        key_pos: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, C).

        Args:
            query: (B, Q, C).
            key: (B, N, C), the values too.
            query_pos: (B, Q, C), added to the queries.
            key_pos: (B, N, C), added to the keys and not to the values.
            padding: (B, N) bool, True where a key may not be looked at; None: all may.
        """
        read = self.attn(query + query_pos, key + key_pos, key, key_padding_mask=padding, need_weights=False)[
            0
        ]
        out: Tensor = query + self.dropout(read)
        return out
