"""Heads that predict their anchors: where they are, and what shape they have.

Shapes: B images; features are (B, C, H_i, W_i); one square and one guided anchor at each location, n_i of
level i, A over all levels; K classes; P positives of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import inside_flags
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.geometry import scale_boxes
from detcfg.boxes.nms import multiclass_nms
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config.ranges import Fraction, PositiveInt
from detcfg.heads.anchor_based.approx_anchor_head import ApproxAnchorHead, ApproxAnchorHeadConfig, by_approxes
from detcfg.heads.anchor_based.location_targets import location_targets
from detcfg.heads.dense.base import check_dense_sampler
from detcfg.heads.dense.levels import flatten_level, flatten_levels, sizes_of
from detcfg.heads.dense.towers import init_classifier, init_convs
from detcfg.layers.feature_adaption import FeatureAdaption
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.bounded_iou import BoundedIoULossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import Detections, ImageBatch, Targets

LOSS_SHARE = 200
"""`loss_loc` is divided by the number of locations over this."""
MAX_LOG_SHAPE = -math.log(1e-6)
"""The logarithms of an anchor's width and height differ from the square's by at most this."""


@frozen(kw_only=True)
class GuidedAnchorHeadConfig(ApproxAnchorHeadConfig):
    """Region Proposal by Guided Anchoring (Wang et al., 2019, https://arxiv.org/abs/1901.03278).

    Follows mmdet/models/dense_heads/guided_anchor_head.py.
    """

    anchor_coder: DeltaXYWHBBoxCoderConfig = DeltaXYWHBBoxCoderConfig()
    """Encodes an anchor's shape as deltas to its square, and decodes predicted ones."""
    deform_groups: PositiveInt = 4
    """Groups of channels of the deformable convolution, each with offsets of its own."""
    loc_filter_thr: Fraction = 0.01
    """In testing, only locations with at least this location score have an anchor."""
    center_ratio: Fraction = 0.2
    """Size of the region of an object where anchors are to be, over the object's."""
    ignore_ratio: Fraction = 0.5
    """Size of the region beyond which none are."""
    loc_center_label: Literal[0, 1] = 1
    """The label of that region for `loss_loc`. As MMDetection 3 counts classes from 0 and background last, its 1
    stands for background: the head is trained to low scores where objects are. 0 is the paper's meaning."""
    ga_assigner: ApproxMaxIoUAssignerConfig = ApproxMaxIoUAssignerConfig(
        pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3
    )
    """Assigns ground-truth boxes to squares, for the anchors' shapes. It is not told of ignored boxes."""
    ga_sampler: SamplerConfig = RandomSamplerConfig(num=256, pos_fraction=0.5, add_gt_as_proposals=False)
    """Samples the positives and negatives that enter the loss of the shapes."""
    loss_loc: ClassLossConfig = FocalLossConfig()
    """Loss of the location scores."""
    loss_shape: LossConfig = BoundedIoULossConfig()
    """Loss of the anchors' shapes."""
    loss_cls: ClassLossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = SmoothL1LossConfig()
    """Box regression loss."""

    def wired(self) -> Self:
        check_dense_sampler("ga_sampler", self.ga_sampler)
        return super().wired()

    def build(self) -> GuidedAnchorHead:
        return GuidedAnchorHead(self.resolved())


class GuidedAnchorHead(ApproxAnchorHead):
    """Predicts location and shape of anchors, and then scores and refines those.

    MMDetection leaves out the convolutions where `loc_filter_thr` leaves no anchor. Here they are computed
    and not looked at, so that images of a batch need not agree where that is.
    """

    def __init__(self, config: GuidedAnchorHeadConfig) -> None:
        super().__init__(config)
        self.anchor_coder = config.anchor_coder
        self.loc_filter_thr = config.loc_filter_thr
        self.center_ratio, self.ignore_ratio = config.center_ratio, config.ignore_ratio
        self.loc_center_label = config.loc_center_label
        self.ga_assigner = config.ga_assigner
        self.loss_loc = config.loss_loc.build()
        self.loss_shape = config.loss_shape.build()
        self.shape_target_maker = evolve(
            self.target_maker,
            bbox_coder=config.anchor_coder,
            sampler=config.ga_sampler,
            reg_decoded_bbox=True,
            pos_weight=-1.0,
        )
        self._init_layers(config)

    def _init_layers(self, config: GuidedAnchorHeadConfig) -> None:
        channels = config.feat_channels
        self.conv_loc = nn.Conv2d(config.in_channels, 1, 1)
        self.conv_shape = nn.Conv2d(config.in_channels, 2, 1)
        self.feature_adaption = FeatureAdaption(
            config.in_channels, channels, deform_groups=config.deform_groups
        )
        self.conv_cls = nn.Conv2d(channels, self.cls_out_channels, 1)
        self.conv_reg = nn.Conv2d(channels, self.bbox_coder.encode_size, 1)
        self._init_weights()

    def _init_weights(self) -> None:
        init_convs(self)
        for layer in self.modules():
            if isinstance(layer, FeatureAdaption):
                layer.reset_parameters()
        init_classifier(self.conv_loc)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """Logits (B, C, H, W), deltas (B, 4, H, W), log shapes (B, 2, H, W), location scores (B, 1, H, W)."""
        del level
        location, shape = self.conv_loc(feature), self.conv_shape(feature)
        feature = self.feature_adaption(feature, shape)
        return self.conv_cls(feature), self.conv_reg(feature), shape, location

    def guided_anchors(self, shapes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level its anchors (B, n_i, 4): squares with the predicted shapes, detached."""
        squares = self.priors(shapes)
        return tuple(
            self._shaped(square.expand(len(maps), -1, -1), flatten_level(maps.detach(), 2))
            for square, maps in zip(squares, shapes, strict=True)
        )

    def _shaped(self, squares: Tensor, shapes: Tensor) -> Tensor:
        """Squares (..., 4) with log shapes (..., 2)."""
        deltas = torch.cat([torch.zeros_like(shapes), shapes], dim=-1)
        return self.anchor_coder.decode(squares, deltas, max_log_ratio=MAX_LOG_SHAPE)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds, shapes, locations = predictions
        approxes = self.approxes(cls_scores)
        inside = self.inside(approxes, cls_scores, batch)
        guided = self.guided_anchors(shapes)
        anchor_targets = self.target_maker(
            guided,
            sizes_of(cls_scores),
            batch,
            targets,
            assign=self.assign,
            inside=[self._inside_too(guided, index, flags, batch) for index, flags in enumerate(inside)],
        )
        losses = self.losses_of_targets(cls_scores, bbox_preds, guided, anchor_targets)
        losses["loss_shape"] = self.shape_loss(shapes, approxes, inside, batch, targets)
        losses["loss_loc"] = self.location_loss(locations, targets)
        return losses

    def _inside_too(
        self, guided: Sequence[Tensor], index: int, flags: Tensor | None, batch: ImageBatch
    ) -> Tensor | None:
        """Those of the candidate squares whose anchor lies in the image as well."""
        border = self.target_maker.allowed_border
        if flags is None or border < 0:
            return flags
        anchors = torch.cat([level[index] for level in guided])
        return flags & inside_flags(anchors, batch.sizes[index], border)

    def shape_loss(
        self,
        shapes: Sequence[Tensor],
        approxes: Tensor,
        inside: Sequence[Tensor | None],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> Tensor:
        """The loss of the anchors' shapes, by those of the objects that squares are assigned to."""
        squares = self.priors(shapes)
        shape_targets = self.shape_target_maker(
            squares,
            sizes_of(shapes),
            batch,
            [objects.not_ignored for objects in targets],
            assign=by_approxes(self.ga_assigner, approxes),
            inside=inside,
        )
        positive = shape_targets.positive
        shaped = self._shaped(shape_targets.priors_of(squares), flatten_levels(shapes, 2)[positive])
        gt_boxes = shape_targets.bbox_targets[positive]
        loss: Tensor = self.loss_shape(shaped, gt_boxes, avg_factor=shape_targets.avg_factor)
        return loss

    def location_loss(self, locations: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """The loss of the location scores (B, 1, H_i, W_i), by where the centres of objects are."""
        central, weights = location_targets(
            [objects.not_ignored.boxes for objects in targets],
            sizes_of(locations),
            self.anchor_generator.strides,
            anchor_scale=self.approx_anchor_generator.octave_base_scale or 1.0,
            center_ratio=self.center_ratio,
            ignore_ratio=self.ignore_ratio,
        )
        labels = central.long() if self.loc_center_label else 1 - central.long()
        loss: Tensor = self.loss_loc(
            flatten_levels(locations, 1).flatten(0, 1),
            labels.flatten(),
            weights.flatten(),
            avg_factor=labels.numel() / LOSS_SHARE,
        )
        return loss

    def candidates(
        self, predictions: tuple[tuple[Tensor, ...], ...], index: int, nms_pre: int, *, filtered: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each level the best locations of an image: scores (m, K), deltas (m, 4) and anchors (m, 4).

        Args:
            predictions: What `forward` predicts.
            index: The image.
            nms_pre: At most so many of a level, by their best class; not above 0 for all.
            filtered: Whether locations whose score is below `loc_filter_thr` are left out.
        """
        cls_scores, bbox_preds, shapes, locations = predictions
        one = slice(index, index + 1)
        for level, anchors in enumerate(self.guided_anchors([maps[one] for maps in shapes])):
            scores = self.probabilities(flatten_level(cls_scores[level][one], self.cls_out_channels)[0])
            deltas = flatten_level(bbox_preds[level][one], self.bbox_coder.encode_size)[0]
            found = scores, deltas, anchors[0]
            if filtered:
                kept = flatten_level(locations[level][one].sigmoid(), 1)[0, :, 0] >= self.loc_filter_thr
                found = scores[kept], deltas[kept], anchors[0][kept]
            if 0 < nms_pre < len(found[0]):
                best = found[0].amax(dim=1).topk(nms_pre).indices
                found = found[0][best], found[1][best], found[2][best]
            yield found

    @torch.no_grad()
    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        return [self._image_detections(predictions, batch, index) for index in range(len(batch))]

    def _image_detections(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, index: int
    ) -> Detections:
        found = list(self.candidates(predictions, index, self.test_cfg.nms_pre, filtered=not self.training))
        scores, deltas, anchors = (torch.cat(parts) for parts in zip(*found, strict=True))
        boxes = self.bbox_coder.decode(anchors, deltas, max_shape=batch.sizes[index])
        boxes, kept_scores, labels, _ = multiclass_nms(
            scale_boxes(boxes, batch.scales(index)),
            scores,
            score_thr=self.test_cfg.score_thr,
            nms=self.test_cfg.nms,
            max_per_img=self.test_cfg.max_per_img,
        )
        return Detections(boxes=boxes, scores=kept_scores, labels=labels)
