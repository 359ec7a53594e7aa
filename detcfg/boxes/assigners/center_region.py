"""Assignment by the centre regions of objects.

Shapes: A priors, N ground-truth boxes of one image.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.geometry import boxes_around, centres, inside
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import Fraction, PositiveFloat
from detcfg.structures import Targets


@frozen(eq=False)
class CenterRegionAssignment(Assignment):
    """An assignment in which a prior may be left out of the loss of some classes."""

    shadowed: Tensor
    """(A, N) bool: the prior is neither positive nor negative for the class of this ground-truth box."""


@frozen(kw_only=True)
class CenterRegionAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to the priors in their core; those in the ring around it are ignored.

    From FSAF (Zhu et al., 2019, https://arxiv.org/abs/1903.00621). Follows
    mmdet/models/task_modules/assigners/center_region_assigner.py.
    """

    pos_scale: PositiveFloat
    """The core, whose priors are positive, is the box scaled by this factor about its centre."""
    neg_scale: PositiveFloat
    """The ring reaches as far as the box scaled by this factor."""
    min_pos_iof: Fraction = 0.01
    """A prior is in a region if more than this share of its area is (intersection over foreground)."""
    ignore_gt_scale: PositiveFloat = 0.5
    """Priors whose centres are in an ignored box scaled by this factor are neither positive nor negative."""
    foreground_dominate: bool = False
    """Whether a prior in the core of one object and the ring of another of its class is positive, or negative."""

    def assign(self, priors: Tensor, targets: Targets) -> CenterRegionAssignment:
        """Assign the priors of one image.

        Args:
            priors: (A, 4).
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        boxes, labels = targets.not_ignored.boxes, targets.not_ignored.labels
        points = centres(priors)
        in_core = inside(points, boxes, 0) & self._reaches(priors, scaled(boxes, self.pos_scale))
        in_ring = self._reaches(priors, scaled(boxes, self.neg_scale)) & ~in_core

        gt_indices = torch.full((len(priors),), NEGATIVE, device=priors.device)
        labels_of_priors = torch.full_like(gt_indices, NEGATIVE)
        shadowed = in_ring
        if len(boxes) > 0 and len(priors) > 0:
            # A prior in the core of several objects goes to the smallest.
            best = smallest_first(boxes).where(in_core, -1).max(dim=1).indices
            positive = in_core.any(dim=1)
            gt_indices = best.where(positive, gt_indices)
            others = in_core.scatter(1, best[:, None], False)  # noqa: FBT003 - torch's signature
            shadowed = in_ring | others
            labels_of_priors = labels[best].where(positive, labels_of_priors)
        if len(targets.ignored_boxes) > 0:
            core = scaled(targets.ignored_boxes, self.ignore_gt_scale)
            ignored = inside(points, core, 0).any(dim=1)
            gt_indices = gt_indices.where(~ignored, IGNORED)
            labels_of_priors = labels_of_priors.where(~ignored, NEGATIVE)

        contradicts = shadowed & (labels_of_priors[:, None] == labels)
        if self.foreground_dominate:
            shadowed = shadowed & ~contradicts
        else:
            gt_indices = gt_indices.where(~contradicts.any(dim=1), NEGATIVE)
        return CenterRegionAssignment(
            gt_indices=gt_indices, max_overlaps=priors.new_zeros(len(priors)), shadowed=shadowed
        )

    def assign_anchors(
        self, priors: Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        del num_level_priors
        return self.assign(priors, targets)

    def _reaches(self, priors: Tensor, regions: Tensor) -> Tensor:
        return bbox_overlaps(priors, regions, mode="iof") > self.min_pos_iof


def scaled(boxes: Tensor, factor: float) -> Tensor:
    """Boxes (N, 4) grown by `factor` around their centres."""
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * factor
    return boxes_around(centres(boxes), half)


def smallest_first(boxes: Tensor) -> Tensor:
    """(N,): the priority of each box, which is the higher the smaller its area."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return areas.sort(descending=True, stable=True).indices.argsort()
