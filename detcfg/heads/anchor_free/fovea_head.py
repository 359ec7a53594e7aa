"""The head of FoveaBox.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; N
ground-truth objects of one image; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import check_one_per_level
from detcfg.boxes.assigners.center_region import smallest_first
from detcfg.boxes.geometry import side_distances
from detcfg.config.ranges import NonEmpty, Ordered, PositiveFloat, PositiveInt
from detcfg.heads.anchor_free.anchor_free_head import AnchorFreeHead, AnchorFreeHeadConfig
from detcfg.heads.dense.levels import flatten_levels, per_level, sizes_of
from detcfg.heads.dense.towers import init_classifier, init_convs
from detcfg.layers.conv import ConvSpec
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.deform_conv import DeformConv2d
from detcfg.layers.init import normal_init
from detcfg.losses.base import LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import ImageBatch, Targets

LONGEST = 16.0
"""The longest target distance, in edges; the shortest is one over it."""


@frozen(kw_only=True)
class FoveaHeadConfig(AnchorFreeHeadConfig):
    """Positives lie in the inner part of an object (Kong et al., 2019, https://arxiv.org/abs/1904.03797).

    Follows mmdet/models/dense_heads/fovea_head.py.
    """

    base_edge_list: NonEmpty[PositiveInt] = (16, 32, 64, 128, 256)
    """The unit of distances on each level, in pixels."""
    scale_ranges: NonEmpty[Ordered[PositiveFloat]] = ((8, 32), (16, 64), (32, 128), (64, 256), (128, 512))
    """For each level the least and the greatest square root of the areas of its objects, in pixels."""
    sigma: PositiveFloat = 0.4
    """The share of an object's width and height, around its centre, in which positives lie."""
    with_deform: bool = False
    """Whether a deformable convolution before the classifier looks where the boxes are."""
    deform_groups: PositiveInt = 4
    """Groups of channels with offsets of their own."""
    loss_bbox: LossConfig = SmoothL1LossConfig(beta=0.11)
    """Box regression loss."""

    def wired(self) -> Self:
        wired = super().wired()
        check_one_per_level(self, "in_strides", "base_edge_list", "scale_ranges")
        return wired

    def build(self) -> FoveaHead:
        return FoveaHead(self.resolved())


class FeatureAlign(nn.Module):
    """A deformable convolution whose offsets come from predicted boxes.

    Shapes: (B, in_channels, H, W) and distances (B, 4, H, W) to (B, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, deform_groups: int) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, deform_groups * 2 * 9, 1, bias=False)
        self.conv_adaption = DeformConv2d(ConvSpec(in_channels, out_channels, 3, padding=1, bias=False))

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        out: Tensor = self.conv_adaption(x, self.conv_offset(distances))
        return out.relu()

    def init_weights(self) -> None:
        normal_init(self.conv_offset, std=0.1)
        normal_init(self.conv_adaption, std=0.01)


class FoveaHead(AnchorFreeHead):
    """Predicts class logits and the logarithms of distances in edges."""

    def __init__(self, config: FoveaHeadConfig) -> None:
        super().__init__(config)
        self.base_edge_list = config.base_edge_list
        self.scale_ranges = config.scale_ranges
        self.sigma = config.sigma
        self.feature_adaption: FeatureAlign | None = None
        self.conv_reg = nn.Conv2d(config.tower_channels, 4, 3, padding=1)
        channels = config.tower_channels
        if config.with_deform:
            channels = 4 * config.feat_channels
            self.feature_adaption = FeatureAlign(
                config.in_channels, config.feat_channels, config.deform_groups
            )
            self.cls_convs = nn.Sequential(
                self._layer(config, config.feat_channels, 3), self._layer(config, channels, 1)
            )
        self.conv_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        init_convs(self)
        init_classifier(self.conv_cls)
        if self.feature_adaption is not None:
            self.feature_adaption.init_weights()

    def _layer(self, config: FoveaHeadConfig, in_channels: int, kernel_size: int) -> ConvModule:
        return ConvModule(
            in_channels,
            4 * config.feat_channels,
            kernel_size,
            padding=kernel_size // 2,
            conv_cfg=config.conv_cfg,
            norm_cfg=config.norm_cfg,
        )

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        log_distances = self.conv_reg(self.reg_convs(feature))
        if self.feature_adaption is not None:
            feature = self.feature_adaption(feature, log_distances.exp())
        return self.conv_cls(self.cls_convs(feature)), log_distances

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        points, sizes = self.priors(cls_scores), sizes_of(cls_scores)
        images = [self.image_targets(points, sizes, objects.not_ignored) for objects in targets]
        labels = torch.stack([labels for labels, _ in images])
        positive = labels < self.num_classes
        count = positive.sum()
        scores = flatten_levels(cls_scores, self.cls_out_channels)
        pred = flatten_levels(bbox_preds, 4)[positive]
        target = torch.stack([log_distances for _, log_distances in images])[positive]
        return {
            "loss_cls": self.loss_cls(scores.flatten(0, 1), labels.flatten(), avg_factor=count + len(batch)),
            "loss_bbox": self.loss_bbox(pred, target, torch.ones_like(target), avg_factor=count),
        }

    def image_targets(
        self, points: Sequence[Tensor], sizes: Sequence[tuple[int, int]], objects: Targets
    ) -> tuple[Tensor, Tensor]:
        """Labels (A,), and logarithms of distances (A, 4), which are any numbers for background.

        A point in the inner part of several objects is assigned to the smallest.
        """
        flat = torch.cat(list(points))
        if len(objects) == 0:
            labels = torch.full((len(flat),), self.num_classes, device=flat.device)
            return labels, flat.new_zeros(len(flat), 4)
        boxes = objects.boxes.to(flat)
        inner = torch.cat([self._inner(boxes, level, size) for level, size in enumerate(sizes)])
        best, chosen = smallest_first(boxes).where(inner, -1).max(dim=1)
        labels = objects.labels[chosen].where(best >= 0, self.num_classes)
        distances = side_distances(flat[:, None], boxes)[torch.arange(len(flat), device=flat.device), chosen]
        edges = per_level(self.base_edge_list, points)[:, None]
        return labels, (distances / edges).clamp(1 / LONGEST, LONGEST).log()

    def _inner(self, boxes: Tensor, level: int, size: tuple[int, int]) -> Tensor:
        """(H * W, N) bool: the cells of a level that are in the inner part of an object that suits it."""
        low, high = self.scale_ranges[level]
        scale = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
        scaled = boxes / self.strides[level]
        half = 0.5 * (scaled[:, 2:] - scaled[:, :2])
        first = torch.ceil(scaled[:, :2] + (1 - self.sigma) * half - 0.5)
        last = torch.floor(scaled[:, :2] + (1 + self.sigma) * half - 0.5)
        # Objects at the image's edge have the outermost cells, even if those are not quite inside.
        height, width = size
        x, y = torch.arange(width, device=boxes.device), torch.arange(height, device=boxes.device)
        columns = (x[:, None] >= first[:, 0].clamp(0, width - 1)) & (
            x[:, None] <= last[:, 0].clamp(0, width - 1)
        )
        rows = (y[:, None] >= first[:, 1].clamp(0, height - 1)) & (
            y[:, None] <= last[:, 1].clamp(0, height - 1)
        )
        suits = (scale >= low) & (scale <= high)
        return (rows[:, None] & columns & suits).flatten(0, 1)

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, levels, factors = super().flat_predictions(predictions)
        edges = zip(levels, self.base_edge_list, strict=True)
        return cls_scores, [log_distances.exp() * edge for log_distances, edge in edges], factors

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        """Boxes up to the last pixel's corner rather than the image's edge."""
        shape = None if max_shape is None else (max_shape[0] - 1, max_shape[1] - 1)
        return super().decode(priors, pred, max_shape=shape)
