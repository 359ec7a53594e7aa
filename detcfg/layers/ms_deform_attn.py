"""Attention that reads a few points of several feature maps.

Shapes: B images, Q queries, h heads, L levels, P points over all levels, d = C / h channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Method = Literal["default", "discrete"]


class Memory(NamedTuple):
    """The maps that queries read."""

    maps: Sequence[Tensor]
    """For each level what the attention takes: (B * h, d, H_i, W_i), or (B, C, H_i, W_i)."""
    ratios: Tensor | None
    """(B, 2), the share (x, y) of the maps that the image fills; None: it fills them."""


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention without projections of values and output (RT-DETRv2's and D-FINE's).

    From Deformable DETR (Zhu et al., 2020, https://arxiv.org/abs/2010.04159); points of different number for each
    level from RT-DETRv2 (Lv et al., 2024, https://arxiv.org/abs/2407.17140).

    Args:
        embed_dims: C.
        num_heads: h, a divisor of C.
        num_points: Points of each level.
        method: "default" interpolates between cells; "discrete" reads the nearest cell, for devices without
            `grid_sample`, and leaves the offsets untrained.
        offset_scale: Offsets are in so many widths and heights of the query's box.
    """

    num_points_scale: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_points: Sequence[int],
        *,
        method: Method = "default",
        offset_scale: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_points, self.method = num_heads, tuple(num_points), method
        self.offset_scale = offset_scale
        total = num_heads * sum(num_points)
        scale = torch.tensor([1 / n for n in num_points for _ in range(n)])
        self.register_buffer("num_points_scale", scale)
        self.sampling_offsets = nn.Linear(embed_dims, total * 2)
        self.attention_weights = nn.Linear(embed_dims, total)
        self._init_weights()
        if method == "discrete":
            self.sampling_offsets.requires_grad_(requires_grad=False)

    def _init_weights(self) -> None:
        """Heads look into different directions, points ever farther."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.cat([torch.arange(1, n + 1) for n in self.num_points])
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_((directions[:, None] * steps[:, None]).flatten())
            self.attention_weights.weight.zero_()
            self.attention_weights.bias.zero_()

    def forward(
        self, query: Tensor, boxes: Tensor, values: Sequence[Tensor], ratios: Tensor | None = None
    ) -> Tensor:
        """What each query reads.

        Args:
            query: (B, Q, C).
            boxes: (B, Q, 4) = (cx, cy, w, h) in shares of the image.
            values: For each level (B * h, d, H_i, W_i).
            ratios: (B, 2), the share (x, y) of the maps that the image fills; None: it fills them.

        Returns:
            (B, Q, C).
        """
        batch, count, _ = query.shape
        shape = (batch, count, self.num_heads, sum(self.num_points))
        offsets = self.sampling_offsets(query).view(*shape, 2)
        weights = self.attention_weights(query).view(shape).softmax(dim=-1)
        # In the reference's order: where a point lies between cells decides its gradient.
        offsets = offsets * self.num_points_scale[:, None] * boxes[:, :, None, None, 2:] * self.offset_scale
        points = boxes[:, :, None, None, :2] + offsets
        if ratios is not None:
            points = points * ratios[:, None, None, None]
        points = points.transpose(1, 2).flatten(0, 1)
        weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
        read = nearest if self.method == "discrete" else interpolated
        levels = zip(values, points.split(self.num_points, dim=2), strict=True)
        found = torch.cat([read(value, some) for value, some in levels], dim=-1)
        out: Tensor = (found * weights).sum(dim=-1).view(batch, -1, count).transpose(1, 2)
        return out


class ProjectedMSDeformAttn(MSDeformAttn):
    """`MSDeformAttn` of maps (B, C, H_i, W_i), with projections of values and output (Deformable DETR's and RT-DETRv2's)."""

    def _init_weights(self) -> None:
        super()._init_weights()
        channels = self.sampling_offsets.in_features
        self.value_proj, self.output_proj = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, boxes: Tensor, values: Sequence[Tensor], ratios: Tensor | None = None
    ) -> Tensor:
        projected = [
            F.conv2d(x, self.value_proj.weight[..., None, None], self.value_proj.bias) for x in values
        ]
        read = super().forward(query, boxes, [by_head(x, self.num_heads, ratios) for x in projected], ratios)
        out: Tensor = self.output_proj(read)
        return out


def by_head(x: Tensor, num_heads: int, ratios: Tensor | None) -> Tensor:
    """(B * h, C / h, H, W) of a map (B, C, H, W), zero beyond the image.

    Args:
        x: The map.
        num_heads: h.
        ratios: (B, 2), the share (x, y) of the map that the image fills; None: it fills it.
    """
    if ratios is not None:
        height, width = x.shape[-2:]
        columns = torch.arange(width, device=x.device) + 0.5 < (ratios[:, :1] * width)
        rows = torch.arange(height, device=x.device) + 0.5 < (ratios[:, 1:] * height)
        x = x * (rows[:, None, :, None] & columns[:, None, None, :]).to(x.dtype)
    return x.reshape(len(x) * num_heads, -1, *x.shape[-2:])


def interpolated(maps: Tensor, points: Tensor) -> Tensor:
    """(N, d, Q, p): maps (N, d, H, W) read between their cells at points (N, Q, p, 2) in [0, 1]; 0 outside."""
    grid = (2 * points - 1).to(maps.dtype)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def nearest(maps: Tensor, points: Tensor) -> Tensor:
    """(N, d, Q, p): the cells of maps (N, d, H, W) at points (N, Q, p, 2) in [0, 1], the border's beyond it.

    Each coordinate is bounded by its own side. RT-DETRv2 bounds both by the height, which is the same on squares.
    """
    height, width = maps.shape[-2:]
    x = (points[..., 0] * width + 0.5).long().clamp(0, width - 1)
    y = (points[..., 1] * height + 0.5).long().clamp(0, height - 1)
    indices = (y * width + x).flatten(1)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, indices).view(*maps.shape[:2], *points.shape[1:3])
