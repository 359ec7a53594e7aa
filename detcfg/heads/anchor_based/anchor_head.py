"""The base of the heads that predict from anchors, and what they share.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, a at each location; K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import fill, is_unset
from detcfg.config.ranges import IntOrOff, WeightOrOff
from detcfg.heads.dense.anchor_targets import AnchorTargetMaker, AnchorTargets, Candidates, level_losses
from detcfg.heads.dense.base import LevelHead, LevelHeadConfig, check_dense_sampler
from detcfg.heads.dense.levels import flatten_levels, sizes_of
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class AnchorHeadConfig(LevelHeadConfig):
    """A config that builds an `AnchorHead` (mmdet/models/dense_heads/anchor_head.py)."""

    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(scales=(8.0, 16.0, 32.0))
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig()
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    reg_decoded_bbox: bool = False
    """Whether `loss_bbox` compares decoded boxes, as IoU losses need, rather than deltas."""
    loss_cls: ClassLossConfig = CrossEntropyLossConfig(use_sigmoid=True)
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0)
    """Box regression loss."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    """Assigns ground-truth boxes to priors."""
    sampler: SamplerConfig = PseudoSamplerConfig()
    """Samples the positives and negatives that enter the loss."""
    allowed_border: IntOrOff = -1
    """Anchors that reach further out of the image than this, in pixels, are left out; -1 leaves none out."""
    pos_weight: WeightOrOff = -1.0
    """Weight of positives in classification; at most 0 for 1."""

    hands_predictions: ClassVar[bool] = False
    """Whether the head gives its assigner predictions beside the anchors, where that asks for them."""

    def wired(self) -> Self:
        check_dense_sampler("sampler", self.sampler)
        if not self.hands_predictions:
            self.assigner.check_anchors_suffice("assigner")
        if is_unset(self.in_strides):
            return self
        generator = fill(self.anchor_generator, "in_strides", strides=self.in_strides)
        return evolve(self, anchor_generator=generator)

    @property
    def num_base_priors(self) -> int:
        """a: anchors at each location."""
        return self.anchor_generator.num_base_priors[0]

    @abstractmethod
    def build(self) -> AnchorHead: ...


class AnchorHead(LevelHead):
    """Scores and refines each anchor. A subclass says how features become the two predictions.

    Its parts may be replaced one by one: `forward`, `assign`, `losses`, `probabilities`, `decode`.
    """

    def __init__(self, config: AnchorHeadConfig) -> None:
        super().__init__(config)
        self.anchor_generator = config.anchor_generator
        self.num_base_priors = config.num_base_priors
        self.bbox_coder = config.bbox_coder
        self.reg_decoded_bbox = config.reg_decoded_bbox
        self.loss_bbox = config.loss_bbox.build()
        self.assigner = config.assigner
        self.target_maker = AnchorTargetMaker(
            num_classes=config.num_classes,
            anchor_generator=config.anchor_generator,
            bbox_coder=config.bbox_coder,
            sampler=config.sampler,
            reg_decoded_bbox=config.reg_decoded_bbox,
            allowed_border=config.allowed_border,
            pos_weight=config.pos_weight,
        )

    def priors(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """For each level its anchors (n_i, 4), the same for every image; `maps` are any predictions."""
        return self.anchor_generator.grid_priors(sizes_of(maps), maps[0].device)

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        return self.bbox_coder.decode(priors, pred, max_shape=max_shape)

    def assign(self, candidates: Candidates, targets: Targets) -> Assignment:
        """Assign the ground-truth boxes of one image to its candidates."""
        return self.assigner.assign_anchors(candidates.anchors, targets, candidates.num_level_anchors)

    def get_targets(
        self, anchors: Sequence[Tensor], maps: Sequence[Tensor], batch: ImageBatch, targets: Sequence[Targets]
    ) -> AnchorTargets:
        """The targets of each anchor, from the ground truth of each image; `maps` are any predictions."""
        return self.target_maker(anchors, sizes_of(maps), batch, targets, assign=self.assign)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions[:2]
        anchors = self.priors(cls_scores)
        anchor_targets = self.get_targets(anchors, cls_scores, batch, targets)
        return self.losses_of_targets(cls_scores, bbox_preds, anchors, anchor_targets)

    def losses_of_targets(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        anchors: Sequence[Tensor],
        targets: AnchorTargets,
    ) -> dict[str, Tensor]:
        """The two losses, summed over levels; anchors are (n_i, 4) or (B, n_i, 4) of each level."""
        scores = self.flat_scores(cls_scores)
        loss_cls = level_losses(self.loss_cls, targets, scores, targets.labels, targets.label_weights)
        return {"loss_cls": loss_cls, "loss_bbox": self.box_loss(bbox_preds, anchors, targets)}

    def box_loss(
        self, bbox_preds: Sequence[Tensor], anchors: Sequence[Tensor], targets: AnchorTargets
    ) -> Tensor:
        """The loss of the boxes; anchors are (n_i, 4) or (B, n_i, 4) of each level."""
        boxes = self.flat_deltas(bbox_preds)
        if self.reg_decoded_bbox:
            flat = torch.cat(list(anchors), dim=-2).expand(len(boxes), -1, -1)
            decoded = self.bbox_coder.decode(flat.flatten(0, 1), boxes.flatten(0, 1))
            boxes = decoded.reshape(*boxes.shape[:2], 4)
        return level_losses(self.loss_bbox, targets, boxes, targets.bbox_targets, targets.bbox_weights)

    def flat_scores(self, cls_scores: Sequence[Tensor]) -> Tensor:
        """Logits of all levels to (B, A, C)."""
        return flatten_levels(cls_scores, self.cls_out_channels)

    def flat_deltas(self, bbox_preds: Sequence[Tensor]) -> Tensor:
        """Box deltas of all levels to (B, A, 4), or as many numbers as the box coder has."""
        return flatten_levels(bbox_preds, self.bbox_coder.encode_size)
