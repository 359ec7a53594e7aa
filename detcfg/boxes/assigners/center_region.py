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
from detcfg.structures import Targets


@frozen(eq=False)
class CenterRegionAssignment(Assignment):
    """An assignment that leaves some classes of some priors open."""

    shadowed: Tensor
    """(A, N) bool: the prior neither learns nor unlearns the class of this ground truth."""


@frozen(kw_only=True)
class CenterRegionAssignerConfig(AssignerConfig):
    """Priors in the core of an object learn it, those in the ring around the core are spared (FSAF).

    Zhu et al., 2019, https://arxiv.org/abs/1903.00621. Follows
    mmdet/models/task_modules/assigners/center_region_assigner.py.
    """

    pos_scale: float
    """The core is the box, shrunk by this factor."""
    neg_scale: float
    """The ring reaches as far as the box shrunk by this factor."""
    min_pos_iof: float = 0.01
    """A prior is in a region if more than this share of it is."""
    ignore_gt_scale: float = 0.5
    """Priors in an ignored box, shrunk by this factor, learn nothing."""
    foreground_dominate: bool = False
    """Whether a prior in the core of one object and the ring of another of its class learns, or not."""

    def assign(self, priors: Tensor, targets: Targets) -> CenterRegionAssignment:
        """Assign priors (A, 4) to the learnt ones of `targets`."""
        boxes, labels = targets.not_ignored.boxes, targets.not_ignored.labels
        points = centres(priors)
        in_core = inside(points, boxes, 0) & self._reaches(priors, scaled(boxes, self.pos_scale))
        in_ring = self._reaches(priors, scaled(boxes, self.neg_scale)) & ~in_core

        gt_indices = torch.full((len(priors),), NEGATIVE, device=priors.device)
        learns_label = torch.full_like(gt_indices, NEGATIVE)
        shadowed = in_ring
        if len(boxes) > 0 and len(priors) > 0:
            # Of the objects whose core a prior is in, it learns the smallest.
            best = smallest_first(boxes).where(in_core, -1).max(dim=1).indices
            positive = in_core.any(dim=1)
            gt_indices = best.where(positive, gt_indices)
            lost = in_core.scatter(1, best[:, None], False)  # noqa: FBT003 - torch's own signature
            shadowed = in_ring | lost
            learns_label = labels[best].where(positive, learns_label)
        if len(targets.ignored_boxes) > 0:
            core = scaled(targets.ignored_boxes, self.ignore_gt_scale)
            ignored = inside(points, core, 0).any(dim=1)
            gt_indices = gt_indices.where(~ignored, IGNORED)
            learns_label = learns_label.where(~ignored, NEGATIVE)

        contradicts = shadowed & (learns_label[:, None] == labels)
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
