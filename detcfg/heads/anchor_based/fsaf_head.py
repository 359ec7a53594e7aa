"""The head of FSAF.

Shapes: B images; A anchors over all levels; C logits of an anchor; N ground-truth objects of the batch; L
levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.center_region import CenterRegionAssignerConfig, CenterRegionAssignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.tblr import TBLRBBoxCoderConfig
from detcfg.config import ConfigError
from detcfg.heads.anchor_based.retina_head import RetinaHead, RetinaHeadConfig
from detcfg.heads.dense.anchor_targets import AnchorTargets
from detcfg.heads.dense.levels import level_of_each
from detcfg.layers.init import normal_init
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig, one_hot
from detcfg.losses.iou import IoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets

NEVER = 1e6
"""The loss of an object on a level where no anchor is assigned to it."""


@frozen(kw_only=True)
class FSAFHeadConfig(RetinaHeadConfig):
    """Each object is assigned to the level where its loss is least (Zhu et al., 2019).

    https://arxiv.org/abs/1903.00621. Only its anchor-free branch; the anchors stand for the cells of
    the feature maps. Follows mmdet/models/dense_heads/fsaf_head.py.
    """

    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=1, scales_per_octave=1, ratios=(1.0,)
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = TBLRBBoxCoderConfig(normalizer=4.0)
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    reg_decoded_bbox: bool = True
    """Whether `loss_bbox` compares decoded boxes rather than deltas."""
    loss_cls: ClassLossConfig = FocalLossConfig(reduction="none")
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = IoULossConfig(reduction="none")
    """Box regression loss."""
    assigner: AssignerConfig = CenterRegionAssignerConfig(pos_scale=0.2, neg_scale=0.2, min_pos_iof=0.01)
    """Assigns ground-truth boxes to priors."""

    def wired(self) -> Self:
        wired = super().wired()
        for name, loss in (("loss_cls", self.loss_cls), ("loss_bbox", self.loss_bbox)):
            if loss.reduction != "none":
                raise ConfigError(
                    f'{name}.reduction is "{loss.reduction}", and FSAFHead compares the losses of single '
                    'anchors. Say reduction="none".'
                )
        if not self.loss_cls.use_sigmoid:
            raise ConfigError("loss_cls.use_sigmoid is False, and FSAFHead spares single classes. Say True.")
        return wired

    def build(self) -> FSAFHead:
        return FSAFHead(self.resolved())


class FSAFHead(RetinaHead):
    """RetinaNet's layers, whose box deltas are at least 0."""

    def __init__(self, config: FSAFHeadConfig) -> None:
        super().__init__(config)
        # So that the first boxes have an area.
        normal_init(self.retina_reg, std=0.01, bias=0.25)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        scores, deltas = super().forward_single(feature, level)
        return scores, deltas.relu()

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        anchors = self.priors(cls_scores)
        anchor_targets = self.get_targets(anchors, cls_scores, batch, targets)
        scores, deltas = self.flat_scores(cls_scores), self.flat_deltas(bbox_preds).clamp(min=1e-4)
        weights = anchor_targets.label_weights[..., None] * self.open_classes(anchor_targets, targets)
        boxes = deltas.flatten(0, 1)
        if self.reg_decoded_bbox:
            boxes = self.bbox_coder.decode(torch.cat(list(anchors)).repeat(len(deltas), 1), boxes)
        labels = anchor_targets.labels.flatten()
        loss_cls = self.loss_cls(scores.flatten(0, 1), labels, weights.flatten(0, 1))
        loss_bbox = self.loss_bbox(
            boxes, anchor_targets.bbox_targets.flatten(0, 1), anchor_targets.bbox_weights.flatten(0, 1)
        )
        loss_bbox = loss_bbox.reshape(len(boxes), -1).sum(dim=1)

        gt_inds = anchor_targets.gt_inds.flatten()
        level = level_of_each(anchors).repeat(len(deltas))
        count = sum(len(objects.not_ignored) for objects in targets)
        best = best_levels((loss_cls.sum(1) + loss_bbox).detach(), gt_inds, level, count, len(anchors))
        positive = gt_inds >= 0
        elsewhere = positive & (best[gt_inds] != level) if count else positive
        # On the other levels an object's anchors are no positives of its class, but no negatives either.
        spared = elsewhere[:, None] & one_hot(labels, self.cls_out_channels).bool()

        positives = shared_factor((positive & ~elsewhere).sum(), scores, least=0.0)
        negatives = shared_factor(sum(sampling.num_neg for sampling in anchor_targets.samplings), scores)
        total = positives.where(positives > 0, negatives)
        return {
            "loss_cls": loss_cls.masked_fill(spared, 0).sum() / total,
            "loss_bbox": loss_bbox.masked_fill(elsewhere, 0).sum() / total,
        }

    def open_classes(self, anchor_targets: AnchorTargets, targets: Sequence[Targets]) -> Tensor:
        """(B, A, C) float: 0 for the classes for which an anchor is neither positive nor negative."""
        labels = anchor_targets.labels
        is_open = labels.new_ones((*labels.shape, self.cls_out_channels), dtype=torch.float)
        for index, (assignment, objects) in enumerate(zip(anchor_targets.assignments, targets, strict=True)):
            if isinstance(assignment, CenterRegionAssignment):
                classes = F.one_hot(objects.not_ignored.labels, self.cls_out_channels).float()
                shadowed = assignment.shadowed.float() @ classes > 0
                is_open[index, anchor_targets.inds[index]] = (~shadowed).float()
        return is_open


def best_levels(loss: Tensor, gt_inds: Tensor, level: Tensor, num_objects: int, num_levels: int) -> Tensor:
    """(N,): the level where the mean loss of each object's anchors is least.

    Args:
        loss: (B * A,).
        gt_inds: (B * A,), the object of each anchor; -1 for background.
        level: (B * A,), of each anchor.
        num_objects: N.
        num_levels: L.
    """
    positive = gt_inds >= 0
    cell = (gt_inds * num_levels + level)[positive]
    sums = loss.new_zeros(num_objects * num_levels).index_add(0, cell, loss[positive])
    counts = torch.bincount(cell, minlength=num_objects * num_levels)
    means = (sums / counts.clamp(min=1)).where(counts > 0, NEVER)
    return means.reshape(num_objects, num_levels).argmin(dim=1)
