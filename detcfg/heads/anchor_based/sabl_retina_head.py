"""RetinaNet's head with side-aware boundary localisation.

Shapes: B images; features are (B, C, H_i, W_i); one square at each location, A over all levels; K classes, S
buckets of a side, P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.coders.bucketing import BucketingBBoxCoderConfig
from detcfg.config import check_unused
from detcfg.heads.anchor_based.approx_anchor_head import ApproxAnchorHead, ApproxAnchorHeadConfig, by_approxes
from detcfg.heads.dense.anchor_targets import level_losses
from detcfg.heads.dense.levels import sizes_of
from detcfg.heads.dense.towers import TowerConfig, init_classifier, init_convs
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class SABLRetinaHeadConfig(TowerConfig, ApproxAnchorHeadConfig):
    """SABL on RetinaNet (Wang et al., 2019, https://arxiv.org/abs/1912.04260).

    Follows mmdet/models/dense_heads/sabl_retina_head.py. `loss_bbox` and `reg_decoded_bbox` have no part in it.
    """

    approx_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=4, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The shapes by which a square's overlap with an object is judged."""
    square_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(ratios=(1.0,), scales=(4.0,))
    """The square at each location."""
    bbox_coder: BucketingBBoxCoderConfig = BucketingBBoxCoderConfig(num_buckets=14, scale_factor=3.0)
    """Encodes ground-truth boxes as buckets and offsets of their sides, and decodes predicted ones."""
    assigner: ApproxMaxIoUAssignerConfig = ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    """Assigns ground-truth boxes to squares."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = L1LossConfig()
    """Has no effect: `loss_bbox_cls` and `loss_bbox_reg` take its place. Another value is refused."""
    loss_bbox_cls: LossConfig = CrossEntropyLossConfig(use_sigmoid=True, loss_weight=1.5)
    """Loss of the buckets of the sides."""
    loss_bbox_reg: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0, loss_weight=1.5)
    """Loss of the offsets from the buckets."""

    def wired(self) -> Self:
        reason = "loss_bbox_cls and loss_bbox_reg are the losses of buckets and offsets"
        check_unused(self, reason, "loss_bbox", "reg_decoded_bbox")
        return super().wired()

    def build(self) -> SABLRetinaHead:
        return SABLRetinaHead(self.resolved())


class SABLRetinaHead(ApproxAnchorHead):
    """Of each side of a box: in which bucket it lies, and where in it."""

    def __init__(self, config: SABLRetinaHeadConfig) -> None:
        super().__init__(config)
        self.bucket_coder, self.approx_assigner = config.bbox_coder, config.assigner
        self.loss_bbox_cls = config.loss_bbox_cls.build()
        self.loss_bbox_reg = config.loss_bbox_reg.build()
        # Only the positives are encoded, which are few.
        self.target_maker = evolve(self.target_maker, reg_decoded_bbox=True)
        self.cls_convs, self.reg_convs = config.tower(), config.tower()
        channels = config.tower_channels
        sides = 4 * self.bucket_coder.side_num
        self.retina_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        self.retina_bbox_reg = nn.Conv2d(channels, sides, 3, padding=1)
        self.retina_bbox_cls = nn.Conv2d(channels, sides, 3, padding=1)
        init_convs(self)
        init_classifier(self.retina_cls)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        """Logits (B, C, H, W), and logits and offsets of the buckets (B, 8 * S, H, W)."""
        del level
        hidden = self.reg_convs(feature)
        sides = torch.cat([self.retina_bbox_cls(hidden), self.retina_bbox_reg(hidden)], dim=1)
        return self.retina_cls(self.cls_convs(feature)), sides

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        approxes, squares = self.approxes(cls_scores), self.priors(cls_scores)
        anchor_targets = self.target_maker(
            squares,
            sizes_of(cls_scores),
            batch,
            targets,
            assign=by_approxes(self.approx_assigner, approxes),
            inside=self.inside(approxes, cls_scores, batch),
        )
        scores = self.flat_scores(cls_scores)
        labels, label_weights = anchor_targets.labels, anchor_targets.label_weights
        loss_cls = level_losses(self.loss_cls, anchor_targets, scores, labels, label_weights)
        positive = anchor_targets.positive
        loss_bbox_cls, loss_bbox_reg = self.side_losses(
            self.flat_deltas(bbox_preds)[positive],
            anchor_targets.priors_of(squares),
            anchor_targets.bbox_targets[positive],
            anchor_targets.avg_factor,
        )
        return {"loss_cls": loss_cls, "loss_bbox_cls": loss_bbox_cls, "loss_bbox_reg": loss_bbox_reg}

    def side_losses(
        self, pred: Tensor, squares: Tensor, boxes: Tensor, avg_factor: float
    ) -> tuple[Tensor, Tensor]:
        """The losses of the buckets and of the offsets (P, 8 * S) from squares (P, 4) to boxes (P, 4)."""
        coder = self.bucket_coder
        buckets, offsets = torch.chunk(pred, 2, dim=1)
        bucket_targets, offset_targets = torch.chunk(coder.encode(squares, boxes), 2, dim=1)
        bucket_weights, offset_weights = torch.chunk(coder.weights(squares, boxes), 2, dim=1)
        return (
            self.loss_bbox_cls(buckets, bucket_targets, bucket_weights, avg_factor * 4 * coder.side_num),
            self.loss_bbox_reg(offsets, offset_targets, offset_weights, avg_factor * 4 * coder.offset_topk),
        )

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """Its score factors say how sure it is of the buckets."""
        cls_scores, sides, _ = super().flat_predictions(predictions)
        factors = [self.bucket_coder.confidence(level.flatten(0, 1)).view(level.shape[:2]) for level in sides]
        return cls_scores, sides, factors
