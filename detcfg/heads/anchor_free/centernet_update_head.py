"""The head of CenterNet2's proposals, on its own a detector.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; K classes;
P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import check_one_per_level
from detcfg.boxes.nms import NMSConfig
from detcfg.config.ranges import Fraction, NonEmpty, Ordered, PositiveInt, Unbounded
from detcfg.heads.anchor_free.anchor_free_head import AnchorFreeHead, AnchorFreeHeadConfig
from detcfg.heads.anchor_free.centernet_targets import FAR, HeatTargetMaker, MorePositives
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, sizes_of
from detcfg.heads.dense.towers import init_classifier, init_convs
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import LossConfig
from detcfg.losses.gaussian_focal import GaussianFocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets

LEAST_PROBABILITY = 1e-4
"""Probabilities are kept so far from 0 and 1 in the loss."""


@frozen(kw_only=True)
class CenterNetUpdateHeadConfig(AnchorFreeHeadConfig):
    """Heat around the centres of objects, on a pyramid (Zhou et al., 2021).

    https://arxiv.org/abs/2103.07461. Follows mmdet/models/dense_heads/centernet_update_head.py.
    """

    regress_ranges: NonEmpty[Ordered[Unbounded]] = (
        (0, 80),
        (64, 160),
        (128, 320),
        (256, 640),
        (512, FAR),
    )
    """For each level the least and the greatest half diagonal of its objects, in pixels."""
    hm_min_radius: PositiveInt = 4
    """The least radius of an object's heat, in pixels."""
    hm_min_overlap: Fraction = 0.8
    """Heat reaches as far as a box could be moved and keep this IoU."""
    more_pos_thresh: Fraction = 0.2
    """The box loss below which a point beside an object's centre is a positive of its class."""
    more_pos_topk: PositiveInt = 9
    """Positives of an object in classification, about."""
    soft_weight_on_reg: bool = False
    """Whether heat weighs the box loss."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    loss_cls: GaussianFocalLossConfig = GaussianFocalLossConfig(pos_weight=0.25, neg_weight=0.75)
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Box regression loss."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        check_one_per_level(self, "in_strides", "regress_ranges")
        return wired

    def build(self) -> CenterNetUpdateHead:
        return CenterNetUpdateHead(self.resolved())


class CenterNetUpdateHead(AnchorFreeHead):
    """Predicts class logits and distances to the sides in strides."""

    def __init__(self, config: CenterNetUpdateHeadConfig) -> None:
        super().__init__(config)
        self.conv_cls = nn.Conv2d(config.tower_channels, config.num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(config.tower_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.heat_loss = config.loss_cls.build()
        self.soft_weight_on_reg = config.soft_weight_on_reg
        self.target_maker = HeatTargetMaker(
            num_classes=config.num_classes,
            strides=config.in_strides,
            regress_ranges=config.regress_ranges,
            min_radius=config.hm_min_radius,
            delta=(1 - config.hm_min_overlap) / (1 + config.hm_min_overlap),
        )
        self.more_positives = MorePositives(
            strides=config.in_strides,
            regress_ranges=config.regress_ranges,
            thresh=config.more_pos_thresh,
            topk=config.more_pos_topk,
        )
        init_convs(self)
        init_classifier(self.conv_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        distances = self.scales[level](self.conv_reg(self.reg_convs(feature)))
        return self.conv_cls(self.cls_convs(feature)), distances.clamp(min=0)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        del batch
        cls_scores, bbox_preds = predictions
        points = self.priors(cls_scores)
        heat_targets = self.target_maker(points, targets)
        distances = flatten_levels(bbox_preds, 4)
        with torch.no_grad():
            inds, labels = self.more_positives(
                sizes_of(cls_scores), distances.flatten(0, 1), targets, self._box_loss
            )
        scores = flatten_levels(cls_scores, self.num_classes).flatten(0, 1).sigmoid()
        loss_cls = self.heat_loss.at_indices(
            scores.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY),
            heat_targets.heat.flatten(0, 1),
            inds,
            labels,
            avg_factor=shared_factor(len(inds), scores),
        )
        positive, priors = heat_targets.positive, heat_targets.priors_of(points)
        weight = heat_targets.heat.amax(dim=-1)[positive]
        weight = weight if self.soft_weight_on_reg else torch.ones_like(weight)
        loss_bbox = self.loss_bbox(
            self.bbox_coder.decode(priors, distances[positive]),
            self.bbox_coder.decode(priors, heat_targets.distances[positive]),
            weight,
            avg_factor=shared_factor(weight.sum(), weight),
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    def _box_loss(self, distances: Tensor, target: Tensor) -> Tensor:
        """The unweighted loss (n,) of distances (n, 4) from any point against others (n, 4)."""
        origin = distances.new_zeros(len(distances), 2)
        boxes, gt_boxes = (self.bbox_coder.decode(origin, sides) for sides in (distances, target))
        loss: Tensor = self.loss_bbox(boxes, gt_boxes, reduction_override="none")
        return loss / self.loss_bbox.loss_weight

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, distances, factors = super().flat_predictions(predictions)
        pixels = [level * stride for level, stride in zip(distances, self.strides, strict=True)]
        return cls_scores, pixels, factors
