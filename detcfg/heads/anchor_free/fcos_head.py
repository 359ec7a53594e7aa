"""The head of FCOS.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; K classes;
P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import check_one_per_level
from detcfg.config.ranges import NonEmpty, Ordered, PositiveFloat, Unbounded
from detcfg.heads.anchor_free.anchor_free_head import AnchorFreeHead, AnchorFreeHeadConfig
from detcfg.heads.dense.levels import flatten_levels, per_level
from detcfg.heads.dense.point_targets import FCOS_RANGES, PointTargetMaker, PointTargets, centerness
from detcfg.heads.dense.towers import init_classifier, init_convs
from detcfg.layers.conv import ConvConfig, ConvSpec
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class FCOSHeadConfig(AnchorFreeHeadConfig):
    """Distances from points to the sides of their object (Tian et al., 2019).

    https://arxiv.org/abs/1904.01355. Follows mmdet/models/dense_heads/fcos_head.py.
    """

    regress_ranges: NonEmpty[Ordered[Unbounded]] = FCOS_RANGES
    """For each level the least and the greatest distance from a point to the farthest side of its object, in
    pixels."""
    center_sampling: bool = False
    """Whether positives lie near their object's centre, rather than anywhere in its box."""
    center_sample_radius: PositiveFloat = 1.5
    """How near, in strides."""
    norm_on_bbox: bool = False
    """Whether distances are predicted in strides and cut at 0, rather than as logarithms of pixels."""
    centerness_on_reg: bool = False
    """Whether the centerness is predicted from the tower for boxes, rather than from that for classes."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    loss_centerness: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """Loss of the centerness."""
    cls_predictor_cfg: ConvConfig | None = None
    """A 1 x 1 convolution of this kind gives the logits, rather than an ordinary 3 x 3 one."""

    def wired(self) -> Self:
        wired = super().wired()
        check_one_per_level(self, "in_strides", "regress_ranges")
        return wired

    def build(self) -> FCOSHead:
        return FCOSHead(self.resolved())


class FCOSHead(AnchorFreeHead):
    """Predicts class logits, distances (in strides if `norm_on_bbox`) and logits of the centerness."""

    def __init__(self, config: FCOSHeadConfig) -> None:
        super().__init__(config)
        self.norm_on_bbox = config.norm_on_bbox
        self.centerness_on_reg = config.centerness_on_reg
        channels = config.tower_channels
        self.conv_cls: nn.Module = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        if config.cls_predictor_cfg is not None:
            self.conv_cls = config.cls_predictor_cfg.build_for(ConvSpec(channels, self.cls_out_channels, 1))
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.loss_centerness = config.loss_centerness.build()
        self.target_maker = PointTargetMaker(
            num_classes=config.num_classes,
            strides=config.in_strides,
            regress_ranges=config.regress_ranges,
            center_sample_radius=config.center_sample_radius if config.center_sampling else None,
        )
        init_convs(self)
        init_classifier(self.conv_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        return self.predictors(self.cls_convs(feature), self.reg_convs(feature), level)

    def predictors(self, classes: Tensor, boxes: Tensor, level: int) -> tuple[Tensor, ...]:
        """One level's predictions from what the two towers give."""
        distances = self.scales[level](self.conv_reg(boxes))
        distances = distances.clamp(min=0) if self.norm_on_bbox else distances.exp()
        central = self.conv_centerness(boxes if self.centerness_on_reg else classes)
        return self.conv_cls(classes), distances, central

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        del batch
        points = self.priors(predictions[0])
        return self.losses_of_targets(predictions, points, self.scaled_targets(points, targets))

    def losses_of_targets(
        self, predictions: tuple[tuple[Tensor, ...], ...], points: Sequence[Tensor], targets: PointTargets
    ) -> dict[str, Tensor]:
        """The losses of what `forward` predicts at the points (n_i, 2) of each level."""
        cls_scores, bbox_preds, centernesses = predictions[:3]
        positive, priors = targets.positive, targets.priors_of(points)
        count = shared_factor(positive.sum(), cls_scores[0])
        scores = flatten_levels(cls_scores, self.cls_out_channels)
        loss_cls = self.loss_cls(scores.flatten(0, 1), targets.labels.flatten(), avg_factor=count)

        distances = targets.distances[positive]
        quality = centerness(distances)
        loss_bbox = self.loss_bbox(
            self.bbox_coder.decode(priors, flatten_levels(bbox_preds, 4)[positive]),
            self.bbox_coder.decode(priors, distances),
            quality,
            avg_factor=shared_factor(quality.sum(), quality, least=1e-6),
        )
        central = flatten_levels(centernesses, 1).squeeze(-1)[positive]
        loss_centerness = self.loss_centerness(central, quality, avg_factor=count)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_centerness": loss_centerness}

    def scaled_targets(self, points: Sequence[Tensor], targets: Sequence[Targets]) -> PointTargets:
        """The targets of each point, distances in the units of the predictions."""
        found = self.target_maker(points, targets)
        if not self.norm_on_bbox:
            return found
        return evolve(found, distances=found.distances / per_level(self.strides, points)[:, None])

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, distances, factors = super().flat_predictions(predictions)
        if self.norm_on_bbox:
            distances = [level * stride for level, stride in zip(distances, self.strides, strict=True)]
        return cls_scores, distances, factors
