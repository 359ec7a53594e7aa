"""The head of FSAF.

Shapes: B images; A anchors over all levels; C logits of an anchor; N objects of the batch; L levels.
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
from detcfg.heads.dense.levels import per_level
from detcfg.layers.init import normal_init
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig, one_hot
from detcfg.losses.iou import IoULossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets

NEVER = 1e6
"""The loss of an object on a level where no anchor learns it."""


@frozen(kw_only=True)
class FSAFHeadConfig(RetinaHeadConfig):
    """Each object is learnt on the level where its loss is least (Zhu et al., 2019).

    https://arxiv.org/abs/1903.00621. Only its anchor-free branch; the anchors stand for the cells of
    the feature maps. Follows mmdet/models/dense_heads/fsaf_head.py.
    """

    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=1, scales_per_octave=1, ratios=(1.0,)
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = TBLRBBoxCoderConfig(normalizer=4.0)
    """How a box is written relative to its prior."""
    reg_decoded_bbox: bool = True
    """Whether the loss compares boxes rather than their codes."""
    loss_cls: ClassLossConfig = FocalLossConfig(reduction="none")
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox: LossConfig = IoULossConfig(reduction="none")
    """The loss of the boxes."""
    assigner: AssignerConfig = CenterRegionAssignerConfig(pos_scale=0.2, neg_scale=0.2, min_pos_iof=0.01)
    """Which priors learn which object."""

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
    """RetinaNet's layers, whose box codes are at least 0."""

    def __init__(self, config: FSAFHeadConfig) -> None:
        super().__init__(config)
        # So that the first boxes have an area.
        normal_init(self.retina_reg, std=0.01, bias=0.25)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        scores, codes = super().forward_single(feature, level)
        return scores, codes.relu()

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        anchors = self.anchors(cls_scores)
        learnt = self.targets(anchors, cls_scores, batch, targets)
        scores, codes = self.flat_scores(cls_scores), self.flat_codes(bbox_preds).clamp(min=1e-4)
        weights = learnt.label_weights[..., None] * self.open_classes(learnt, targets)
        boxes = codes.flatten(0, 1)
        if self.reg_decoded_bbox:
            boxes = self.bbox_coder.decode(torch.cat(list(anchors)).repeat(len(codes), 1), boxes)
        loss_cls = self.loss_cls(scores.flatten(0, 1), learnt.labels.flatten(), weights.flatten(0, 1))
        loss_bbox = self.loss_bbox(
            boxes, learnt.bbox_targets.flatten(0, 1), learnt.bbox_weights.flatten(0, 1)
        )
        loss_bbox = loss_bbox.reshape(len(boxes), -1).sum(dim=1)

        objects = learnt.objects.flatten()
        level = per_level(range(len(anchors)), anchors).long().repeat(len(codes))
        count = sum(len(objects_.not_ignored) for objects_ in targets)
        best = best_levels((loss_cls.sum(1) + loss_bbox).detach(), objects, level, count, len(anchors))
        positive = objects >= 0
        elsewhere = positive & (best[objects] != level) if count else positive
        # An object's class is only unlearnt where it is not learnt, not on the other levels.
        spared = elsewhere[:, None] & one_hot(learnt.labels.flatten(), self.cls_out_channels).bool()

        positives = shared_factor((positive & ~elsewhere).sum(), scores, least=0.0)
        negatives = shared_factor(sum(sampling.num_neg for sampling in learnt.samplings), scores)
        total = positives.where(positives > 0, negatives)
        return {
            "loss_cls": loss_cls.masked_fill(spared, 0).sum() / total,
            "loss_bbox": loss_bbox.masked_fill(elsewhere, 0).sum() / total,
        }

    def open_classes(self, learnt: AnchorTargets, targets: Sequence[Targets]) -> Tensor:
        """(B, A, C) float: 0 for the classes that an anchor neither learns nor unlearns."""
        is_open = learnt.labels.new_ones((*learnt.labels.shape, self.cls_out_channels), dtype=torch.float)
        for index, (assignment, objects) in enumerate(zip(learnt.assignments, targets, strict=True)):
            if isinstance(assignment, CenterRegionAssignment):
                classes = F.one_hot(objects.not_ignored.labels, self.cls_out_channels).float()
                shadowed = assignment.shadowed.float() @ classes > 0
                is_open[index, learnt.places[index]] = (~shadowed).float()
        return is_open


def best_levels(loss: Tensor, objects: Tensor, level: Tensor, num_objects: int, num_levels: int) -> Tensor:
    """(N,): the level where the mean loss of each object's anchors is least.

    Args:
        loss: (B * A,).
        objects: (B * A,), -1 for background.
        level: (B * A,), of each anchor.
        num_objects: N.
        num_levels: L.
    """
    positive = objects >= 0
    cell = (objects * num_levels + level)[positive]
    sums = loss.new_zeros(num_objects * num_levels).index_add(0, cell, loss[positive])
    counts = torch.bincount(cell, minlength=num_objects * num_levels)
    means = (sums / counts.clamp(min=1)).where(counts > 0, NEVER)
    return means.reshape(num_objects, num_levels).argmin(dim=1)
