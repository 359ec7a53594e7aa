"""The losses of matched predictions: classes, and boxes twice over.

Shapes: B images, Q queries, K classes, S sets of predictions, P pairs of a query and an object. Boxes are (cx, cy, w, h) in
shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.assigners.hungarian import HungarianAssignerConfig, Pairs
from detcfg.boxes.cxcywh import to_cxcywh, to_xyxy
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.match_costs.boxes import BBoxL1CostConfig, IoUCostConfig
from detcfg.boxes.match_costs.focal import FocalLossCostConfig
from detcfg.config import ModuleConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.matched_varifocal import MatchedVarifocalLossConfig
from detcfg.structures import ImageBatch, Targets

EPS = 1e-12
"""The least area to divide by, in shares of the image."""


@frozen(eq=False)
class Objects:
    """The ground truth of a batch, without crowds."""

    labels: tuple[Tensor, ...]
    """(N,) int64 of each image."""
    boxes: tuple[Tensor, ...]
    """(N, 4) of each image."""

    @classmethod
    def of(
        cls, targets: Sequence[Targets], batch: ImageBatch, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Objects:
        """The ground truth of images, as shares of `sizes`; None: of what they are padded to on their own."""
        labels: list[Tensor] = []
        boxes: list[Tensor] = []
        for target, (height, width) in zip(targets, sizes or batch.padded_sizes, strict=True):
            kept = target.not_ignored
            size = torch.tensor([width, height] * 2).to(batch.tensor, non_blocking=True)
            labels.append(kept.labels)
            boxes.append(to_cxcywh(kept.boxes.to(size)) / size)
        return cls(tuple(labels), tuple(boxes))

    def __len__(self) -> int:
        return sum(map(len, self.labels))


class At(NamedTuple):
    """Pairs on the device, (P,) each."""

    sets: Tensor
    images: Tensor
    queries: Tensor
    labels: Tensor
    """The objects' classes."""
    boxes: Tensor
    """The objects' boxes, (P, 4)."""

    def in_every_set(self, count: int) -> At:
        """The pairs of one set, in each of `count` sets."""
        every = At(*(x.expand(count, *x.shape).flatten(0, 1) for x in self))
        sets = torch.arange(count, device=self.sets.device).repeat_interleave(len(self.sets))
        return every._replace(sets=sets)


@frozen(kw_only=True)
class SetCriterionConfig(ModuleConfig):
    """A matching, and the losses of the scores and the boxes of what it matches."""

    class_name: ClassVar[str] = "loss_vfl"
    """The name of the loss of the class scores."""

    assigner: HungarianAssignerConfig = HungarianAssignerConfig(
        match_costs=(
            FocalLossCostConfig(weight=2.0, eps=1e-8),
            BBoxL1CostConfig(weight=5.0),
            IoUCostConfig(weight=2.0),
        )
    )
    """Matches predictions with ground-truth boxes."""
    loss_vfl: ClassLossConfig = MatchedVarifocalLossConfig()
    """The loss of the class scores: logits (..., K) against the IoU of matches (..., K), -1 for negatives."""
    loss_bbox: LossConfig = L1LossConfig(loss_weight=5.0)
    """The loss of the boxes as centre and size, in shares of the image."""
    loss_giou: LossConfig = GIoULossConfig(loss_weight=2.0, eps=EPS)
    """The loss of the boxes as corners, in shares of the image."""


class SetCriterion(nn.Module):
    """What criteria of sets of predictions share. All sets are computed at once."""

    def __init__(self, config: SetCriterionConfig) -> None:
        super().__init__()
        self.assigner, self.class_name = config.assigner, config.class_name
        self.loss_vfl, self.loss_bbox = config.loss_vfl.build(), config.loss_bbox.build()
        self.loss_giou = config.loss_giou.build()

    def class_losses(self, logits: Tensor, boxes: Tensor, at: At) -> Tensor:
        """(S,), summed over queries and classes."""
        index = (at.sets, at.images, at.queries)
        quality = overlaps(boxes[index].detach(), at.boxes)
        target = torch.full_like(logits, -1)
        target[(*index, at.labels)] = quality.to(target.dtype)
        losses: Tensor = self.loss_vfl(logits, target, reduction_override="none")
        return losses.sum(dim=(1, 2, 3))

    def box_losses(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) twice, summed over pairs: L1 and GIoU of the boxes (S, P, 4) of pairs."""
        loss_bbox: Tensor = self.loss_bbox(pred, target, reduction_override="none")
        loss_giou: Tensor = self.loss_giou(to_xyxy(pred), to_xyxy(target), reduction_override="none")
        return loss_bbox.sum(dim=(1, 2)), loss_giou.sum(dim=1)


def named(name: str, suffixes: Sequence[str], values: Tensor) -> dict[str, Tensor]:
    """A loss for each of `suffixes`."""
    return {f"{name}{suffix}": value for suffix, value in zip(suffixes, values, strict=True)}


def located(pairs: Pairs, objects: Objects, device: torch.device) -> At:
    """The pairs on the device, carried there in one piece."""
    table = np.stack([pairs.sets, pairs.images, pairs.queries, pairs.objects])
    sets, images, queries, index = torch.as_tensor(table, device=device)
    return At(sets, images, queries, torch.cat(objects.labels)[index], torch.cat(objects.boxes)[index])


def overlaps(boxes: Tensor, targets: Tensor) -> Tensor:
    """(..., P): the IoU of boxes (..., P, 4) with their targets (P, 4)."""
    return bbox_overlaps(to_xyxy(boxes), to_xyxy(targets), is_aligned=True, eps=EPS)
