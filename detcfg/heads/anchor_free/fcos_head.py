"""The head of FCOS.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each place; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, is_unset
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
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class FCOSHeadConfig(AnchorFreeHeadConfig):
    """Distances from points to the sides of their object (Tian et al., 2019).

    https://arxiv.org/abs/1904.01355. Follows mmdet/models/dense_heads/fcos_head.py.
    """

    regress_ranges: tuple[tuple[float, float], ...] = FCOS_RANGES
    """For each level, how far the farthest side of its objects may be, in pixels."""
    center_sampling: bool = False
    """Whether only points near an object's centre learn it, rather than all in its box."""
    center_sample_radius: float = 1.5
    """How near, in strides."""
    norm_on_bbox: bool = False
    """Whether distances are predicted in strides and cut at 0, rather than as logarithms of pixels."""
    centerness_on_reg: bool = False
    """Whether the stack for boxes says how central a point is, rather than the one for classes."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    loss_centerness: LossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """The loss of the centerness."""
    cls_predictor_cfg: ConvConfig | None = None
    """A 1 x 1 convolution of this kind gives the logits, rather than an ordinary 3 x 3 one."""

    def wired(self) -> Self:
        wired = super().wired()
        if not is_unset(self.in_strides) and len(self.regress_ranges) != len(self.in_strides):
            raise ConfigError(
                f"regress_ranges is {self.regress_ranges} and in_strides is {self.in_strides}; "
                "each level needs its range."
            )
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
        """One level's predictions from what the two stacks give."""
        distances = self.scales[level](self.conv_reg(boxes)).float()
        distances = distances.clamp(min=0) if self.norm_on_bbox else distances.exp()
        central = self.conv_centerness(boxes if self.centerness_on_reg else classes)
        return self.conv_cls(classes), distances, central

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        del batch
        points = self.points(predictions[0])
        return self.losses_of_targets(predictions, points, self.scaled_targets(points, targets))

    def losses_of_targets(
        self, predictions: tuple[tuple[Tensor, ...], ...], points: Sequence[Tensor], learnt: PointTargets
    ) -> dict[str, Tensor]:
        """The losses of what `forward` predicts at the points (n_i, 2) of each level."""
        cls_scores, bbox_preds, centernesses = predictions[:3]
        positive = learnt.labels < self.num_classes
        count = shared_factor(positive.sum(), cls_scores[0])
        scores = flatten_levels(cls_scores, self.cls_out_channels)
        loss_cls = self.loss_cls(scores.flatten(0, 1), learnt.labels.flatten(), avg_factor=count)

        places = torch.cat(list(points)).expand(*positive.shape, 2)[positive]
        wanted = learnt.distances[positive]
        quality = centerness(wanted)
        loss_bbox = self.loss_bbox(
            self.bbox_coder.decode(places, flatten_levels(bbox_preds, 4)[positive]),
            self.bbox_coder.decode(places, wanted),
            quality,
            avg_factor=shared_factor(quality.sum(), quality, least=1e-6),
        )
        central = flatten_levels(centernesses, 1).squeeze(-1)[positive]
        loss_centerness = self.loss_centerness(central, quality, avg_factor=count)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_centerness": loss_centerness}

    def scaled_targets(self, points: Sequence[Tensor], targets: Sequence[Targets]) -> PointTargets:
        """What each point learns, distances in the units of the predictions."""
        learnt = self.target_maker(points, targets)
        if not self.norm_on_bbox:
            return learnt
        return evolve(learnt, distances=learnt.distances / per_level(self.strides, points)[:, None])

    def detections_with_places(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch
    ) -> list[tuple[Detections, Tensor]]:
        cls_scores, bbox_preds, *others = predictions
        if self.norm_on_bbox:
            bbox_preds = tuple(level * stride for level, stride in zip(bbox_preds, self.strides, strict=True))
        return super().detections_with_places((cls_scores, bbox_preds, *others), batch)
