"""D-FINE's decoder layers: queries look at each other, read the maps, and refine distributions of their sides.

Shapes: B images, Q queries, C channels, K classes, n + 1 bins; boxes are (cx, cy, w, h) in shares of the image.

From D-FINE (Peng et al., 2024, https://arxiv.org/abs/2410.13842); follows zoo/dfine/dfine_decoder.py of
Peterande/D-FINE.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detcfg.layers.activation import ActivationConfig
from detcfg.layers.mlp import MLP, RELU
from detcfg.layers.ms_deform_attn import Memory, Method, MSDeformAttn
from detcfg.layers.nonuniform_bins import by_side

CLAMP = 65504
"""The greatest number of half precision, which a layer's output is bounded by."""


class Gateway(nn.Module):
    """A gated sum of two (..., C), normalised, instead of a shortcut: what came before may be forgotten."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * channels, 2 * channels)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.norm = nn.LayerNorm(channels)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        gates = self.gate(torch.cat([first, second], dim=-1)).sigmoid()
        gate1, gate2 = gates.chunk(2, dim=-1)
        out: Tensor = self.norm(gate1 * first + gate2 * second)
        return out


class LocationQualityEstimator(nn.Module):
    """Adds to the logits (..., K) how sure the distributions (..., 4 * (n + 1)) of the sides are: their four highest
    probabilities and the mean of these."""

    TOPK = 4

    def __init__(self, act_cfg: ActivationConfig = RELU) -> None:
        super().__init__()
        self.reg_conf = MLP(4 * (self.TOPK + 1), 64, 1, 2, act_cfg)
        nn.init.zeros_(self.reg_conf.last.weight)
        nn.init.zeros_(self.reg_conf.last.bias)

    def forward(self, logits: Tensor, corners: Tensor) -> Tensor:
        highest = by_side(corners).softmax(dim=-1).topk(self.TOPK, dim=-1).values
        stat = torch.cat([highest, highest.mean(dim=-1, keepdim=True)], dim=-1)
        out: Tensor = logits + self.reg_conf(stat.flatten(-2))
        return out


class DecoderLayer(nn.Module):
    """Self-attention, deformable attention behind a gateway, and two linear layers."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        dim_feedforward: int,
        num_points: Sequence[int],
        *,
        act_cfg: ActivationConfig = RELU,
        dropout: float = 0.0,
        method: Method = "default",
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn = MSDeformAttn(channels, num_heads, num_points, method=method)
        self.gateway = Gateway(channels)
        self.linear1, self.linear2 = (
            nn.Linear(channels, dim_feedforward),
            nn.Linear(dim_feedforward, channels),
        )
        self.norm3 = nn.LayerNorm(channels)
        self.dropout, self.act = nn.Dropout(dropout), act_cfg.build()
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self, x: Tensor, positions: Tensor, boxes: Tensor, memory: Memory, hidden: Tensor | None
    ) -> Tensor:
        """The queries (B, Q, C) of the next layer.

        Args:
            x: (B, Q, C).
            positions: (B, Q, C), added where queries look.
            boxes: (B, Q, 4), around which they read.
            memory: What they read.
            hidden: (Q, Q) bool, True where a query may not look at another one.
        """
        q = x + positions
        seen = self.self_attn(q, q, x, attn_mask=hidden, need_weights=False)[0]
        x = self.norm1(x + self.dropout(seen))
        read = self.cross_attn(x + positions, boxes, memory.maps, memory.ratios)
        x = self.gateway(x, self.dropout(read))
        fed = self.linear2(self.dropout(self.act(self.linear1(x))))
        out: Tensor = self.norm3((x + self.dropout(fed)).clamp(-CLAMP, CLAMP))
        return out


class Decoder(nn.Module):
    """The layers, and what estimates the quality of each one's boxes. `DFINETransformer` goes through them."""

    def __init__(
        self,
        layers: Sequence[DecoderLayer],
        up: nn.Parameter,
        reg_scale: nn.Parameter,
        act_cfg: ActivationConfig = RELU,
    ) -> None:
        super().__init__()
        # The checkpoints of the reference have these two here as well as one level up.
        self.up, self.reg_scale = up, reg_scale
        self.layers = nn.ModuleList(layers)
        self.lqe_layers = nn.ModuleList(LocationQualityEstimator(act_cfg) for _ in layers)
