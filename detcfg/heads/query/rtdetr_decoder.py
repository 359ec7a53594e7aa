"""RT-DETR's decoder layers: queries look at each other and read the maps.

Shapes: B images, Q queries, C channels; boxes are (cx, cy, w, h) in shares of the image.

Follows zoo/rtdetr/rtdetrv2_decoder.py of lyuwenyu/RT-DETR (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detcfg.layers.activation import ActivationConfig
from detcfg.layers.mlp import RELU
from detcfg.layers.ms_deform_attn import Memory, Method, ProjectedMSDeformAttn


class RTDETRDecoderLayer(nn.Module):
    """Self-attention, deformable attention and two linear layers, each normalised after its shortcut.

    Args:
        channels: C.
        num_heads: Heads of both attentions, a divisor of C.
        dim_feedforward: Channels between the linear layers.
        num_points: Points of each level that a head reads.
        act_cfg: The activation between the linear layers.
        dropout: Probability that a value is left out in training.
        method: How the maps are read between their cells.
    """

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
        self.cross_attn = ProjectedMSDeformAttn(channels, num_heads, num_points, method=method)
        self.norm2 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, channels)
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
            memory: What they read, maps of (B, C, H_i, W_i).
            hidden: (Q, Q) bool, True where a query may not look at another one.
        """
        q = x + positions
        seen = self.self_attn(q, q, x, attn_mask=hidden, need_weights=False)[0]
        x = self.norm1(x + self.dropout(seen))
        read = self.cross_attn(x + positions, boxes, memory.maps, memory.ratios)
        x = self.norm2(x + self.dropout(read))
        fed = self.linear2(self.dropout(self.act(self.linear1(x))))
        out: Tensor = self.norm3(x + self.dropout(fed))
        return out


class RTDETRDecoder(nn.Module):
    """The layers. `RTDETRTransformerV2` goes through them."""

    def __init__(self, layers: Sequence[RTDETRDecoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
