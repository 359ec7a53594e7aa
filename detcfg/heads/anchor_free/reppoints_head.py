"""The head of RepPoints.

Shapes: B images; features are (B, C, H_i, W_i); n points at each location, A locations over all levels;
K classes. Predicted points are (B, 2 n, H, W) = (y, x) in strides from their location, one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.assigners.point import PointAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.geometry import centres, clip_boxes
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import NonNegativeFloat, NumLayers, PositiveInt, WeightOrOff
from detcfg.heads.anchor_free.rep_points import (
    TransformMethod,
    grids_on_boxes,
    kernel_offsets,
    points_to_boxes,
)
from detcfg.heads.dense.anchor_targets import AnchorTargetMaker, AnchorTargets, Candidates, level_losses
from detcfg.heads.dense.base import LevelHead, LevelHeadConfig, check_dense_sampler
from detcfg.heads.dense.levels import flatten_levels, per_level, sizes_of
from detcfg.heads.dense.towers import TowerConfig, init_classifier, init_convs
from detcfg.layers.conv import ConvSpec
from detcfg.layers.deform_conv import DeformConv2d
from detcfg.losses.base import LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class RepPointsHeadConfig(TowerConfig, LevelHeadConfig):
    """Objects as sets of points, predicted and then refined (Yang et al., 2019).

    https://arxiv.org/abs/1904.11490. Follows mmdet/models/dense_heads/reppoints_head.py.
    """

    point_feat_channels: PositiveInt = 256
    """Channels of the layers before each prediction."""
    stacked_convs: NumLayers = 3
    """Layers of each tower."""
    num_points: PositiveInt = 9
    """n: the square of an odd number."""
    gradient_mul: NonNegativeFloat = 0.1
    """The share of the gradients of classes and refinement that reaches the first points."""
    point_base_scale: PositiveInt = 4
    """Side of the box around each location that assignment starts from, in strides."""
    use_grid_points: bool = False
    """Whether boxes are predicted, and the points are a grid on each."""
    center_init: bool = True
    """Whether the first points start from their location, or from a grid on its box."""
    transform_method: TransformMethod = "moment"
    """How points become a box."""
    moment_mul: NonNegativeFloat = 0.01
    """The share of its gradients that reaches the trainable factor of "moment"."""
    loss_bbox_init: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0, loss_weight=0.5)
    """Loss of the boxes of the first points."""
    loss_bbox_refine: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0, loss_weight=1.0)
    """Loss of the boxes of the refined points."""
    init_assigner: AssignerConfig = PointAssignerConfig(scale=4, pos_num=1)
    """Assigns ground-truth boxes to the first points: by their locations, or by the boxes around those."""
    refine_assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    """Assigns ground-truth boxes to refined points and classes, by the boxes of the first points."""
    sampler: SamplerConfig = PseudoSamplerConfig()
    """Samples the positives and negatives that enter the loss."""
    pos_weight: WeightOrOff = -1.0
    """Weight of positives in classification; at most 0 for 1."""

    def wired(self) -> Self:
        check_dense_sampler("sampler", self.sampler)
        self.init_assigner.check_anchors_suffice("init_assigner")
        self.refine_assigner.check_anchors_suffice("refine_assigner")
        side = isqrt(self.num_points)
        if side**2 != self.num_points or side % 2 == 0 or side == 1:
            raise ConfigError(
                f"num_points is {self.num_points}, but the points are the taps of a square kernel with a "
                "centre: give 9, 25 or another square of an odd number."
            )
        return self

    def build(self) -> RepPointsHead:
        return RepPointsHead(self.resolved())


class RepPointsHead(LevelHead):
    """Two towers, before deformable convolutions that look at the first points."""

    kernel: Tensor

    def __init__(self, config: RepPointsHeadConfig) -> None:
        super().__init__(config)
        self.side = isqrt(config.num_points)
        self.gradient_mul = config.gradient_mul
        self.point_base_scale = config.point_base_scale
        self.use_grid_points = config.use_grid_points
        self.center_init = config.center_init
        self.transform_method: TransformMethod = config.transform_method
        self.moment_mul = config.moment_mul
        self.moment_transfer = nn.Parameter(torch.zeros(2)) if config.transform_method == "moment" else None
        self.register_buffer("kernel", kernel_offsets(self.side), persistent=False)
        self._init_layers(config)
        self.loss_bbox_init = config.loss_bbox_init.build()
        self.loss_bbox_refine = config.loss_bbox_refine.build()
        self.init_assigner = config.init_assigner
        self.refine_assigner = config.refine_assigner
        # One square around each location, which has no offset within its cell.
        self.anchor_generator = AnchorGeneratorConfig(
            strides=config.in_strides, ratios=(1.0,), scales=(float(config.point_base_scale),)
        )
        self.target_maker = AnchorTargetMaker(
            num_classes=config.num_classes,
            anchor_generator=self.anchor_generator,
            bbox_coder=DeltaXYWHBBoxCoderConfig(),  # not used with decoded boxes
            sampler=config.sampler,
            reg_decoded_bbox=True,
            pos_weight=config.pos_weight,
        )

    def _init_layers(self, config: RepPointsHeadConfig) -> None:
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        width, hidden = config.tower_channels, config.point_feat_channels
        numbers = 4 if config.use_grid_points else 2 * config.num_points
        self.relu = nn.ReLU(inplace=True)
        spec = ConvSpec(width, hidden, self.side, padding=self.side // 2, bias=False)
        self.reppoints_cls_conv = DeformConv2d(spec)
        self.reppoints_cls_out = nn.Conv2d(hidden, self.cls_out_channels, 1)
        self.reppoints_pts_init_conv = nn.Conv2d(width, hidden, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(hidden, numbers, 1)
        self.reppoints_pts_refine_conv = DeformConv2d(spec)
        self.reppoints_pts_refine_out = nn.Conv2d(hidden, numbers, 1)
        init_convs(self)
        for conv in (self.reppoints_cls_conv, self.reppoints_pts_refine_conv):
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        init_classifier(self.reppoints_cls_out)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """Logits (B, C, H, W), the first points and the refined ones."""
        del level
        classes, points = self.cls_convs(feature), self.reg_convs(feature)
        deltas = self.reppoints_pts_init_out(self.relu(self.reppoints_pts_init_conv(points)))
        boxes = None
        if self.use_grid_points:
            half = self.point_base_scale / 2
            first_box = deltas.new_tensor((-half, -half, half, half)).view(1, 4, 1, 1)
            init, boxes = grids_on_boxes(deltas, first_box, self.side)
        else:
            init = deltas if self.center_init else deltas + self._first_grid()
        offset = (1 - self.gradient_mul) * init.detach() + self.gradient_mul * init - self.kernel
        logits = self.reppoints_cls_out(self.relu(self.reppoints_cls_conv(classes, offset)))
        deltas = self.reppoints_pts_refine_out(self.relu(self.reppoints_pts_refine_conv(points, offset)))
        if boxes is not None:
            return logits, init, grids_on_boxes(deltas, boxes.detach(), self.side)[0]
        return logits, init, deltas + init.detach()

    def _first_grid(self) -> Tensor:
        """The taps of the kernel, spread over the box around a location."""
        return self.kernel / self.kernel.amax() * (self.point_base_scale / 2)

    def boxes(self, points: Tensor) -> Tensor:
        """Points (B, 2 n, H, W) to boxes (B, 4, H, W), both in strides from their location."""
        stretch = None
        if self.moment_transfer is not None:
            slow = self.moment_transfer * self.moment_mul
            stretch = slow + self.moment_transfer.detach() * (1 - self.moment_mul)
        return points_to_boxes(points, self.transform_method, stretch)

    def priors(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level the squares around its locations (n_i, 4); `maps` are any predictions."""
        return self.anchor_generator.grid_priors(sizes_of(maps), maps[0].device)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, init, refined = predictions
        anchors = self.priors(cls_scores)
        strides = per_level(self.strides, anchors)
        locations = centres(torch.cat(list(anchors))).repeat(1, 2)
        first = locations + flatten_levels([self.boxes(points) for points in init], 4) * strides[:, None]
        second = locations + flatten_levels([self.boxes(points) for points in refined], 4) * strides[:, None]
        init_targets, refine_targets = self._targets(cls_scores, anchors, first.detach(), batch, targets)

        unit = (self.point_base_scale * strides)[:, None]
        scores = flatten_levels(cls_scores, self.cls_out_channels)
        labels, label_weights = refine_targets.labels, refine_targets.label_weights
        boxes = ((first, init_targets, self.loss_bbox_init), (second, refine_targets, self.loss_bbox_refine))
        loss_init, loss_refine = (
            level_losses(loss, found, pred / unit, found.bbox_targets / unit, found.bbox_weights)
            for pred, found, loss in boxes
        )
        return {
            "loss_cls": level_losses(self.loss_cls, refine_targets, scores, labels, label_weights),
            "loss_pts_init": loss_init,
            "loss_pts_refine": loss_refine,
        }

    def _targets(
        self,
        maps: Sequence[Tensor],
        anchors: Sequence[Tensor],
        boxes: Tensor,
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> tuple[AnchorTargets, AnchorTargets]:
        """The targets of the first points, and of the refined ones whose first boxes are (B, A, 4).

        `maps` are any predictions.
        """
        strides = per_level(self.strides, anchors)

        def by_location(candidates: Candidates, objects: Targets) -> Assignment:
            priors, counts = candidates.anchors, candidates.num_level_anchors
            if isinstance(self.init_assigner, PointAssignerConfig):
                return self.init_assigner.assign(centres(priors), strides[candidates.inds], objects)
            return self.init_assigner.assign_anchors(priors, objects, counts)

        def by_first_points(candidates: Candidates, objects: Targets) -> Assignment:
            first = boxes[candidates.image][candidates.inds]
            return self.refine_assigner.assign_anchors(first, objects, candidates.num_level_anchors)

        sizes = sizes_of(maps)
        return (
            self.target_maker(anchors, sizes, batch, targets, assign=by_location),
            self.target_maker(anchors, sizes, batch, targets, assign=by_first_points),
        )

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, _, refined = predictions
        boxes = tuple(
            self.boxes(points) * stride for points, stride in zip(refined, self.strides, strict=True)
        )
        return super().flat_predictions((cls_scores, boxes))

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        """Boxes (n, 4) relative to their locations as boxes within the image."""
        boxes = pred + centres(priors).repeat(1, 2)
        return boxes if max_shape is None else clip_boxes(boxes, max_shape)
