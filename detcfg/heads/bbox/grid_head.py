"""The head of Grid R-CNN, which predicts a box by the heatmaps of a grid of points on it.

Shapes: R rois; S the side of pooled features; G grid points, counted column by column. A map of side 4 S covers
the roi enlarged twice; the heatmap of a point is its quarter of that map about the point, of side 2 S.
"""

from __future__ import annotations

from math import isqrt, log
from typing import Annotated, Final, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, ModuleConfig, derived, is_unset
from detcfg.config.ranges import OneOrMoreLayers, PositiveInt
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init, normal_init
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.losses.base import LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig

RARE: Final = 0.01
"""The probability of every cell of a heatmap at the start of training."""


@frozen(kw_only=True)
class GridHeadConfig(ModuleConfig):
    """Grid R-CNN (Lu et al., 2018, https://arxiv.org/abs/1811.12030), in the version of Grid R-CNN Plus
    (https://arxiv.org/abs/1906.05688).

    Follows mmdet/models/roi_heads/mask_heads/grid_head.py.
    """

    in_channels: PositiveInt = derived()
    """Channels of the pooled features."""
    roi_feat_size: PositiveInt = derived()
    """S: side of the pooled features."""
    grid_points: Annotated[int, Ge(4)] = 9
    """G, a square number."""
    num_convs: OneOrMoreLayers = 8
    """Convolutions; the first has stride 2."""
    conv_kernel_size: PositiveInt = 3
    """Side of their kernels."""
    point_feat_channels: PositiveInt = 64
    """Channels of each grid point."""
    deconv_kernel_size: PositiveInt = 4
    """Side of the kernels of the two transposed convolutions, each of stride 2."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = GNConfig(num_groups=36)
    """The norm after each convolution; None: a bias instead."""
    loss_grid: LossConfig = CrossEntropyLossConfig(use_sigmoid=True, loss_weight=15.0)
    """The loss of the heatmaps."""

    def wired(self) -> Self:
        wired = super().wired()
        if isqrt(self.grid_points) ** 2 != self.grid_points:
            raise ConfigError(
                f"grid_points is {self.grid_points}, which is no square number. Give 4, 9 or 16."
            )
        if not is_unset(self.roi_feat_size) and self.roi_feat_size % 2:
            raise ConfigError(f"roi_feat_size is {self.roi_feat_size}, but heatmaps need an even one.")
        channels, norm = self.grid_points * self.point_feat_channels, self.norm_cfg
        if isinstance(norm, GNConfig) and channels % norm.num_groups:
            raise ConfigError(
                f"norm_cfg.num_groups is {norm.num_groups}, which does not divide the {channels} channels of "
                f"{self.grid_points} points with {self.point_feat_channels} each."
            )
        return wired

    def build(self) -> GridHead:
        return GridHead(self.resolved())


class GridHead(nn.Module):
    """Pooled features (R, C, S, S) to heatmaps (R, G, 2 S, 2 S)."""

    def __init__(self, config: GridHeadConfig) -> None:
        super().__init__()
        self.grid_points = config.grid_points
        self.grid_size = isqrt(config.grid_points)
        self.map_size = config.roi_feat_size * 4
        self.half_size = self.map_size // 4 * 2
        width = config.point_feat_channels * config.grid_points
        self.convs = nn.Sequential(
            *(
                ConvModule(
                    width if index else config.in_channels,
                    width,
                    config.conv_kernel_size,
                    stride=1 if index else 2,
                    padding=(config.conv_kernel_size - 1) // 2,
                    bias=True,
                    conv_cfg=config.conv_cfg,
                    norm_cfg=config.norm_cfg,
                )
                for index in range(config.num_convs)
            )
        )
        kernel, points = config.deconv_kernel_size, config.grid_points
        padding = (kernel - 2) // 2
        self.deconv1 = nn.ConvTranspose2d(width, width, kernel, stride=2, padding=padding, groups=points)
        self.norm1 = nn.GroupNorm(points, width)
        self.deconv2 = nn.ConvTranspose2d(width, points, kernel, stride=2, padding=padding, groups=points)
        self.neighbors = _neighbors(self.grid_size)
        channels = config.point_feat_channels
        self.forder_trans = _transitions(self.neighbors, channels)
        self.sorder_trans = _transitions(self.neighbors, channels)
        self.loss_grid = config.loss_grid.build()
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                kaiming_init(module)
        normal_init(self.deconv1, std=0.001)
        normal_init(self.deconv2, std=0.001, bias=-log((1 - RARE) / RARE))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmap logits (R, G, 2 S, 2 S) of the fused points, and in training of the unfused ones as well."""
        x = self.convs(features)
        points = x.chunk(self.grid_points, dim=1)
        first = self._fused(self.forder_trans, points, points)
        second = self._fused(self.sorder_trans, points, first)
        fused = self._heatmap(torch.cat(second, dim=1))
        return fused, self._heatmap(x) if self.training else fused

    def _fused(
        self, transitions: nn.ModuleList, points: tuple[Tensor, ...], sources: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The features of each point plus those of its neighbours in `sources`, each through a transition."""
        fused: list[Tensor] = []
        for point, edges in enumerate(transitions):
            total = points[point]
            for neighbor, edge in zip(self.neighbors[point], edges.children(), strict=True):
                total = total + edge(sources[neighbor])
            fused.append(total)
        return tuple(fused)

    def _heatmap(self, x: Tensor) -> Tensor:
        heatmap: Tensor = self.deconv2(F.relu(self.norm1(self.deconv1(x)), inplace=True))
        return heatmap

    def corners(self, like: Tensor) -> Tensor:
        """(G, 2): the (x, y) at which the heatmap of each point begins in the whole map."""
        starts = [self._start(index) for index in range(self.grid_size)]
        return like.new_tensor([(x, y) for x in starts for y in starts])

    def _start(self, index: int) -> int:
        """Where the heatmap of a column or row of points begins: half as wide as the map, about the point."""
        if index == 0:
            return 0
        if index == self.grid_size - 1:
            return self.half_size
        return max(int((index / (self.grid_size - 1) - 0.25) * self.map_size), 0)

    def loss(self, heatmaps: tuple[Tensor, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """`loss_grid` of both heatmaps (R, G, 2 S, 2 S) of `forward`."""
        return {
            "loss_grid": sum(
                (self.loss_grid(heatmap, targets) for heatmap in heatmaps), targets.new_zeros(())
            )
        }

    @torch.no_grad()
    def targets(self, boxes: Tensor, gt_bboxes: Tensor, radius: int) -> Tensor:
        """(R, G, 2 S, 2 S) float: 1 within `radius` cells of the grid point on the ground-truth box, else 0.

        Args:
            boxes: (R, 4) rois. For those whose enlarged side is at most `grid_size` pixels all targets are 0.
            gt_bboxes: (R, 4), one for each roi.
            radius: In cells of the map.
        """
        size = boxes[:, 2:] - boxes[:, :2]
        corner = boxes[:, :2] - size / 2
        steps = torch.linspace(0, 1, self.grid_size, device=boxes.device)
        along = gt_bboxes[:, None, :2] * (1 - steps[:, None]) + gt_bboxes[:, None, 2:] * steps[:, None]
        cells = ((along - corner[:, None]) / (2 * size[:, None]) * self.map_size).trunc()  # (R, side, 2)
        columns, rows = (
            cells[..., 0].repeat_interleave(self.grid_size, dim=1),
            cells[..., 1].repeat(1, self.grid_size),
        )
        starts = self.corners(boxes)
        offsets = torch.arange(self.half_size, device=boxes.device)
        dx = offsets + starts[:, :1] - columns[..., None]
        dy = offsets + starts[:, 1:] - rows[..., None]
        near = dy.square()[..., :, None] + dx.square()[..., None, :] <= radius**2
        large = (2 * size > self.grid_size).all(dim=1)
        return (near & large[:, None, None, None]).to(boxes.dtype)

    def decode(self, heatmaps: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (R, 4) that heatmap logits (R, G, 2 S, 2 S) of rois `boxes` (R, 4) predict.

        Each point lies at its cell with the highest score; a side is the mean of its points, weighted by score.
        """
        scores, cells = heatmaps.float().sigmoid().flatten(2).max(dim=2)
        starts = self.corners(boxes)
        size = boxes[:, 2:] - boxes[:, :2]
        corner = boxes[:, :2] - size / 2
        # A heatmap covers half of the map, which covers twice the box: a cell is 1 / (2 S) of the box.
        x = (cells % self.half_size + starts[:, 0] + 0.5) / self.half_size * size[:, :1] + corner[:, :1]
        y = (cells // self.half_size + starts[:, 1] + 0.5) / self.half_size * size[:, 1:] + corner[:, 1:]
        scores, x, y = (torch.unflatten(v, 1, (self.grid_size, self.grid_size)) for v in (scores, x, y))
        sides = (
            (x[:, 0], scores[:, 0]),
            (y[:, :, 0], scores[:, :, 0]),
            (x[:, -1], scores[:, -1]),
            (y[:, :, -1], scores[:, :, -1]),
        )
        return torch.stack([(at * votes).sum(dim=1) / votes.sum(dim=1) for at, votes in sides], dim=1)


def _neighbors(side: int) -> tuple[tuple[int, ...], ...]:
    """The points left of, above, below and right of each point, column by column, where there are any."""
    neighbors: list[tuple[int, ...]] = []
    for column in range(side):
        for row in range(side):
            near = ((column - 1, row), (column, row - 1), (column, row + 1), (column + 1, row))
            neighbors.append(tuple(x * side + y for x, y in near if 0 <= x < side and 0 <= y < side))
    return tuple(neighbors)


def _transitions(neighbors: tuple[tuple[int, ...], ...], channels: int) -> nn.ModuleList:
    """For each point and each of its neighbours a depthwise separable convolution."""
    return nn.ModuleList(
        nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 5, padding=2, groups=channels), nn.Conv2d(channels, channels, 1)
            )
            for _ in near
        )
        for near in neighbors
    )
