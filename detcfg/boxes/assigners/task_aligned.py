"""Task-aligned assignment.

Shapes: A priors, N ground-truth boxes of one image, K classes.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.geometry import centres, inside
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import NonNegativeFloat, PositiveInt
from detcfg.structures import Targets


@frozen(eq=False)
class TaskAlignedAssignment(Assignment):
    """An assignment with the alignment of each prediction with its object."""

    assign_metrics: Tensor
    """(A,) float: the alignment score^alpha * IoU^beta of each positive, 0 of the others."""


@frozen(kw_only=True)
class TaskAlignedAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to the priors that both classify and localise them best (TOOD).

    Feng et al., 2021, https://arxiv.org/abs/2108.07755. Follows
    mmdet/models/task_modules/assigners/task_aligned_assigner.py.
    """

    topk: PositiveInt = 13
    """Candidates of each ground-truth box."""
    alpha: NonNegativeFloat = 1
    """Exponent of the score in the alignment."""
    beta: NonNegativeFloat = 6
    """Exponent of the IoU in the alignment."""

    def assign(
        self, priors: Tensor, bboxes: Tensor, scores: Tensor, targets: Targets
    ) -> TaskAlignedAssignment:
        """Assign the priors of one image by score^alpha * IoU^beta.

        Args:
            priors: (A, 4).
            bboxes: (A, 4), what is predicted for each prior.
            scores: (A, K) probabilities.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        boxes, labels = targets.not_ignored.boxes, targets.not_ignored.labels
        none = priors.new_zeros(len(priors))
        negative = torch.full((len(priors),), NEGATIVE, device=priors.device)
        if len(boxes) == 0 or len(priors) == 0:
            return TaskAlignedAssignment(gt_indices=negative, max_overlaps=none, assign_metrics=none)

        overlaps = bbox_overlaps(bboxes.detach(), boxes)
        alignment = scores.detach()[:, labels] ** self.alpha * overlaps**self.beta
        metrics, candidates = alignment.topk(min(self.topk, len(priors)), dim=0)
        is_candidate = torch.zeros_like(alignment, dtype=torch.bool).scatter_(0, candidates, metrics > 0)
        positive = is_candidate & inside(centres(priors), boxes)

        max_overlaps, best = overlaps.where(positive, -1e8).max(dim=1)
        assigned = positive.any(dim=1)
        return TaskAlignedAssignment(
            gt_indices=best.where(assigned, negative),
            max_overlaps=max_overlaps,
            assign_metrics=alignment.gather(1, best[:, None])[:, 0].where(assigned, none),
        )
