"""The heads of SOLO whose masks are products of a column's map and a row's map.

Shapes: B images; features are (B, C, H_i, W_i); level i has a grid of G_i x G_i cells, numbered row by
row; K classes.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config.ranges import NonEmpty, OneOrMoreLayers, Ordered, PositiveFloat
from detcfg.heads.dense.towers import conv_tower, init_classifier, init_convs
from detcfg.heads.instance.solo_head import (
    SOLOHead,
    SOLOHeadConfig,
    SOLOPredictions,
    doubled,
    resize_features,
    resized,
)
from detcfg.layers.conv import ConvConfig
from detcfg.layers.coordinates import coordinate_maps, with_coordinates
from detcfg.losses.base import LossConfig
from detcfg.losses.dice import DiceLossConfig
from detcfg.precision import widened


@frozen(kw_only=True)
class DecoupledSOLOHeadConfig(SOLOHeadConfig):
    """2 G maps instead of G^2 (Wang et al., 2019, https://arxiv.org/abs/1912.04488, section 4).

    Follows `DecoupledSOLOHead` in mmdet/models/dense_heads/solo_head.py.
    """

    loss_mask: LossConfig = DiceLossConfig(activate=False, loss_weight=3.0)
    """Mask loss, of probabilities."""

    def build(self) -> DecoupledSOLOHead:
        return DecoupledSOLOHead(self.resolved())


class DecoupledSOLOHead(SOLOHead):
    """A tower for columns, which sees x, and one for rows, which sees y."""

    def _init_layers(self, config: SOLOHeadConfig) -> None:
        self.mask_convs_x = config.tower(config.in_channels + 1)
        self.mask_convs_y = config.tower(config.in_channels + 1)
        self.cls_convs = config.tower(config.in_channels)
        self._init_predictors(config)

    def _init_predictors(self, config: SOLOHeadConfig) -> None:
        width = config.feat_channels
        self.conv_mask_list_x, self.conv_mask_list_y = (
            nn.ModuleList(nn.Conv2d(width, grid, 3, padding=1) for grid in config.num_grids) for _ in range(2)
        )
        self.conv_cls = nn.Conv2d(width, config.num_classes, 3, padding=1)
        init_convs(self)
        for layer in (*self.conv_mask_list_x, *self.conv_mask_list_y, self.conv_cls):
            init_classifier(layer)

    def forward(self, features: tuple[Tensor, ...]) -> SOLOPredictions:
        """The masks are (B, G_i, 2 H_i, 2 W_i) logits of columns and of rows of each level."""
        cls_scores: list[Tensor] = []
        columns: list[Tensor] = []
        rows: list[Tensor] = []
        for level, x in enumerate(resize_features(features)):
            cls_scores.append(self.classify(x, level))
            column_features, row_features = self.mask_features(x)
            columns.append(self.conv_mask_list_x[level](doubled(column_features)))
            rows.append(self.conv_mask_list_y[level](doubled(row_features)))
        return SOLOPredictions(widened(tuple(cls_scores)), (widened(tuple(columns)), widened(tuple(rows))))

    def mask_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features (B, C, H, W) of a level's columns and of its rows."""
        coordinates = coordinate_maps(x)
        columns = torch.cat((x, coordinates[:, :1]), dim=1)
        rows = torch.cat((x, coordinates[:, 1:]), dim=1)
        return self.mask_convs_x(columns), self.mask_convs_y(rows)

    def cell_masks(self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor) -> Tensor:
        column, row = self._maps(predictions, image, level, cells)
        return row.sigmoid() * column.sigmoid()

    def cell_probabilities(
        self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor
    ) -> Tensor:
        size = predictions.masks[0][0].shape[-2:]
        column, row = (resized(maps.sigmoid(), size) for maps in self._maps(predictions, image, level, cells))
        return column * row

    def _maps(
        self, predictions: SOLOPredictions, image: int, level: int, cells: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The logits (n, h, w) of the columns and of the rows of some cells."""
        columns, rows = predictions.masks
        grid = self.num_grids[level]
        return columns[level][image, cells % grid], rows[level][image, cells // grid]


@frozen(kw_only=True)
class DecoupledSOLOLightHeadConfig(DecoupledSOLOHeadConfig):
    """One tower for both (`DecoupledSOLOLightHead` in mmdet/models/dense_heads/solo_head.py)."""

    stacked_convs: OneOrMoreLayers = 4
    """Layers of each tower."""
    scale_ranges: NonEmpty[Ordered[PositiveFloat]] = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
    """For each level the least and the greatest square root of the areas of its objects' boxes, in pixels."""
    dcn_cfg: ConvConfig | None = None
    """The kind of the last convolution of each tower; None: the ordinary one."""

    def tower(self, in_channels: int) -> nn.Sequential:
        kinds = [None] * (self.stacked_convs - 1) + [self.dcn_cfg]
        return conv_tower(in_channels, self.feat_channels, kinds, norm_cfg=self.norm_cfg)

    def build(self) -> DecoupledSOLOLightHead:
        return DecoupledSOLOLightHead(self.resolved())


class DecoupledSOLOLightHead(DecoupledSOLOHead):
    """One tower for columns and rows, which sees x and y."""

    def _init_layers(self, config: SOLOHeadConfig) -> None:
        self.mask_convs = config.tower(config.in_channels + 2)
        self.cls_convs = config.tower(config.in_channels)
        self._init_predictors(config)

    def mask_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.mask_convs(with_coordinates(x))
        return features, features
