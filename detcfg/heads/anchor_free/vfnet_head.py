"""The head of VFNet.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; K classes;
P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig, check_one_per_level
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import fill, is_unset
from detcfg.config.ranges import (
    IntOrOff,
    NonEmpty,
    NonNegativeFloat,
    NumLayers,
    Ordered,
    PositiveFloat,
    Unbounded,
    WeightOrOff,
)
from detcfg.heads.anchor_free.anchor_free_head import AnchorFreeHead, AnchorFreeHeadConfig
from detcfg.heads.dense.anchor_targets import AnchorTargetMaker, Candidates
from detcfg.heads.dense.base import check_dense_sampler
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, of_positives, sizes_of
from detcfg.heads.dense.point_targets import FCOS_RANGES, PointTargetMaker
from detcfg.heads.dense.towers import init_classifier, init_convs
from detcfg.layers.conv import ConvSpec
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.deform_conv import DeformConv2d
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.losses.varifocal import VarifocalLossConfig
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class VFNetHeadConfig(AnchorFreeHeadConfig):
    """Scores that say how well a box fits, from a star of points around it (Zhang et al., 2020).

    https://arxiv.org/abs/2008.13367. Follows mmdet/models/dense_heads/vfnet_head.py.
    """

    stacked_convs: NumLayers = 3
    """Layers of each tower; boxes have one more."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    regress_ranges: NonEmpty[Ordered[Unbounded]] = FCOS_RANGES
    """For each level the least and the greatest distance from a point to the farthest side of its object, in
    pixels. The upper ends are also the units of distances with `bbox_norm_type="reg_denom"`, the last being twice
    the one before it."""
    center_sampling: bool = False
    """Without `use_atss`: whether positives lie near their object's centre, rather than anywhere in its box."""
    center_sample_radius: PositiveFloat = 1.5
    """How near, in strides."""
    sync_num_pos: bool = True
    """Whether the losses of all processes are divided by the mean of their positives."""
    gradient_mul: NonNegativeFloat = 0.1
    """The share of the star's gradient that reaches the boxes which it is drawn around."""
    bbox_norm_type: Literal["reg_denom", "stride"] = "reg_denom"
    """The unit of distances."""
    use_vfl: bool = True
    """Whether the target of a score is the IoU of its box, by `loss_cls`, or the class alone, by `loss_cls_fl`."""
    loss_cls: ClassLossConfig = VarifocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_cls_fl: ClassLossConfig = FocalLossConfig()
    """Classification loss where `use_vfl` is false."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=1.5)
    """Box regression loss."""
    loss_bbox_refine: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Loss of the refined boxes."""
    use_atss: bool = True
    """Whether `assigner` assigns objects to anchors at the points, or FCOS's rules to the points."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    assigner: AssignerConfig = ATSSAssignerConfig(topk=9)
    """Assigns ground-truth boxes to priors."""
    sampler: SamplerConfig = PseudoSamplerConfig()
    """Samples the positives and negatives that enter the loss."""
    allowed_border: IntOrOff = -1
    """Anchors that reach further out of the image than this, in pixels, are left out; -1 leaves none out."""
    pos_weight: WeightOrOff = -1.0
    """Weight of positives in `loss_cls_fl`; at most 0 for 1."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        check_dense_sampler("sampler", self.sampler)
        self.assigner.check_anchors_suffice("assigner")
        wired = super().wired()
        if is_unset(self.in_strides):
            return wired
        check_one_per_level(self, "in_strides", "regress_ranges")
        anchors = fill(self.anchor_generator, "in_strides", strides=self.in_strides)
        anchors.check_single("anchor_generator", type(self).__name__)
        # Points lie where the anchors are that are assigned in their place.
        points = evolve(wired.prior_generator, offset=anchors.center_offset if self.use_atss else 0.5)
        return evolve(wired, anchor_generator=anchors, prior_generator=points)

    @property
    def cls_out_channels(self) -> int:
        loss_cls = self.loss_cls if self.use_vfl else self.loss_cls_fl
        return loss_cls.cls_channels(self.num_classes)

    @property
    def units(self) -> tuple[float, ...]:
        """What predicted distances are multiplied by on each level, in pixels."""
        if self.bbox_norm_type == "stride":
            return self.in_strides
        highest = [high for _, high in self.regress_ranges]
        return (*highest[:-1], 2 * highest[-2])

    def build(self) -> VFNetHead:
        return VFNetHead(self.resolved())


class VFNetHead(AnchorFreeHead):
    """Predicts class logits, and distances twice: at first, and as refined by the star around them."""

    def __init__(self, config: VFNetHeadConfig) -> None:
        super().__init__(config)
        self.units = config.units
        self.gradient_mul = config.gradient_mul
        self.use_vfl, self.use_atss = config.use_vfl, config.use_atss
        self.sync_num_pos = config.sync_num_pos
        self.anchor_generator = config.anchor_generator
        self.assigner = config.assigner
        channels, hidden = config.tower_channels, config.feat_channels
        self.vfnet_reg_conv = ConvModule(
            channels,
            hidden,
            3,
            padding=1,
            conv_cfg=config.conv_cfg,
            norm_cfg=config.norm_cfg,
            bias=config.conv_bias,
        )
        self.vfnet_reg = nn.Conv2d(hidden, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        spec = ConvSpec(channels, hidden, 3, padding=1, bias=False)
        self.vfnet_reg_refine_dconv = DeformConv2d(spec)
        self.vfnet_reg_refine = nn.Conv2d(hidden, 4, 3, padding=1)
        self.scales_refine = nn.ModuleList(Scale() for _ in config.in_strides)
        self.vfnet_cls_dconv = DeformConv2d(spec)
        self.vfnet_cls = nn.Conv2d(hidden, self.cls_out_channels, 3, padding=1)
        if not config.use_vfl:
            self.loss_cls = config.loss_cls_fl.build()
        self.loss_bbox_refine = config.loss_bbox_refine.build()
        self.anchor_targets = AnchorTargetMaker(
            num_classes=config.num_classes,
            anchor_generator=config.anchor_generator,
            bbox_coder=config.bbox_coder,
            sampler=config.sampler,
            reg_decoded_bbox=True,
            allowed_border=config.allowed_border,
            pos_weight=config.pos_weight,
        )
        self.point_targets = PointTargetMaker(
            num_classes=config.num_classes,
            strides=config.in_strides,
            regress_ranges=config.regress_ranges,
            center_sample_radius=config.center_sample_radius if config.center_sampling else None,
        )
        init_convs(self)
        init_classifier(self.vfnet_cls)
        for layer in (self.vfnet_reg_refine_dconv, self.vfnet_cls_dconv):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        classes, boxes = self.cls_convs(feature), self.reg_convs(feature)
        coarse = self.scales[level](self.vfnet_reg(self.vfnet_reg_conv(boxes))).exp()
        coarse = coarse * self.units[level]
        guide = (1 - self.gradient_mul) * coarse.detach() + self.gradient_mul * coarse
        star = star_offsets(guide / self.strides[level]).to(boxes.dtype)
        refinement = self.vfnet_reg_refine(self.vfnet_reg_refine_dconv(boxes, star).relu())
        fine = self.scales_refine[level](refinement).exp() * coarse.detach()
        return self.vfnet_cls(self.vfnet_cls_dconv(classes, star).relu()), coarse, fine

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, coarse, fine = predictions
        scores = flatten_levels(cls_scores, self.cls_out_channels)
        points = self.priors(cls_scores)
        labels, weights, gt_boxes = self._targets(points, cls_scores, batch, targets)
        positive = labels < self.num_classes
        priors = of_positives(torch.cat(list(points)), positive)
        losses: dict[str, Tensor] = {}
        overlaps = scores.new_zeros(0)
        for name, loss, distances in (
            ("loss_bbox", self.loss_bbox, coarse),
            ("loss_bbox_rf", self.loss_bbox_refine, fine),
        ):
            boxes = self.bbox_coder.decode(priors, flatten_levels(distances, 4)[positive])
            overlaps = bbox_overlaps(boxes.detach(), gt_boxes[positive], is_aligned=True).clamp(min=1e-6)
            total = shared_factor(overlaps.sum(), overlaps)
            losses[name] = loss(boxes, gt_boxes[positive], overlaps, avg_factor=total)

        count = positive.sum()
        divisor = shared_factor(count, count) if self.sync_num_pos else count.clamp(min=1)
        if self.use_vfl:
            quality = torch.zeros_like(scores)
            quality[positive] = quality[positive].scatter(1, labels[positive][:, None], overlaps[:, None])
            loss_cls = self.loss_cls(scores.flatten(0, 1), quality.flatten(0, 1), avg_factor=divisor)
        else:
            loss_cls = self.loss_cls(
                scores.flatten(0, 1), labels.flatten(), weights.flatten(), avg_factor=divisor
            )
        return {"loss_cls": loss_cls} | losses

    def _targets(
        self, points: Sequence[Tensor], maps: Sequence[Tensor], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (B, A), their weights (B, A) and boxes (B, A, 4), of which those of background are any."""
        if not self.use_atss:
            by_points = self.point_targets(points, targets)
            flat = torch.cat(list(points)).expand(len(targets), -1, -1)
            boxes = DistancePointBBoxCoderConfig().decode(flat, by_points.distances)
            return by_points.labels, torch.ones_like(boxes[..., 0]), boxes
        sizes = sizes_of(maps)
        anchors = self.anchor_generator.grid_priors(sizes, maps[0].device)
        by_anchors = self.anchor_targets(anchors, sizes, batch, targets, assign=self.assign)
        return by_anchors.labels, by_anchors.label_weights, by_anchors.bbox_targets

    def assign(self, candidates: Candidates, targets: Targets) -> Assignment:
        """Assign the ground-truth boxes of one image to its anchors."""
        return self.assigner.assign_anchors(candidates.anchors, targets, candidates.num_level_anchors)

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, _, fine = predictions
        return super().flat_predictions((cls_scores, fine))


def star_offsets(distances: Tensor) -> Tensor:
    """Where a 3 x 3 kernel looks so that it sees a box's corners, the middles of its sides and the point.

    Args:
        distances: (B, 4, H, W), from each location left, up, right and down to its box, in cells.

    Returns:
        (B, 18, H, W), (y, x) for each tap, relative to where the tap would be.
    """
    left, up, right, down = distances.unbind(1)
    none = torch.zeros_like(left)
    offsets = [
        offset
        for row, y in enumerate((-up, none, down), start=-1)
        for column, x in enumerate((-left, none, right), start=-1)
        for offset in (y - row, x - column)
    ]
    return torch.stack(offsets, dim=1)
