"""Assignment of the same number of priors to each ground-truth box.

Shapes: A priors, N ground-truth boxes of one image, P = 2 * match_times * N pairs.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.geometry import centres
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import Fraction, PositiveInt
from detcfg.structures import Targets


@frozen(eq=False)
class UniformAssignment(Assignment):
    """An assignment that keeps each pair of prediction and object: a prediction may be in several."""

    pos_idx: Tensor
    """(P,) bool: whether the pair is positive; its prior may be too far from the object."""
    pos_predicted_boxes: Tensor
    """(P, 4), the predicted box of each pair."""
    target_boxes: Tensor
    """(P, 4), the ground-truth box of each pair."""


@frozen(kw_only=True)
class UniformAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to the nearest predictions and the nearest priors (YOLOF).

    Chen et al., 2021, https://arxiv.org/abs/2103.09460. Follows mmdet/models/task_modules/assigners/uniform_assigner.py.
    """

    pos_ignore_thr: Fraction
    """A chosen prior whose IoU with its object is below this is neither positive nor negative."""
    neg_ignore_thr: Fraction
    """A prediction whose IoU with any object is above this is not negative."""
    match_times: PositiveInt = 4
    """Predictions, and priors, of each object."""

    def assign(self, priors: Tensor, decoder_priors: Tensor, targets: Targets) -> UniformAssignment:
        """Assign the priors of one image.

        Args:
            priors: (A, 4).
            decoder_priors: (A, 4), the box predicted from each prior.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        boxes = targets.not_ignored.boxes
        gt_indices = torch.full((len(priors),), NEGATIVE, device=priors.device)
        none = priors.new_zeros(len(priors))
        if len(boxes) == 0 or len(priors) == 0:
            return UniformAssignment(
                gt_indices=gt_indices,
                max_overlaps=none,
                pos_idx=priors.new_zeros(0, dtype=torch.bool),
                pos_predicted_boxes=decoder_priors[:0],
                target_boxes=boxes[:0],
            )

        nearest = torch.cat([self._nearest(decoder_priors, boxes), self._nearest(priors, boxes)], dim=1)
        chosen = nearest.reshape(-1)
        owners = torch.arange(len(boxes), device=boxes.device).repeat(2 * len(nearest))
        near = bbox_overlaps(priors, boxes)[chosen, owners] >= self.pos_ignore_thr
        max_overlaps = bbox_overlaps(decoder_priors.detach(), boxes).max(dim=1).values
        gt_indices = gt_indices.where(max_overlaps <= self.neg_ignore_thr, IGNORED)
        gt_indices[chosen] = owners.where(near, IGNORED)
        return UniformAssignment(
            gt_indices=gt_indices,
            max_overlaps=max_overlaps,
            pos_idx=near,
            pos_predicted_boxes=decoder_priors[chosen],
            target_boxes=boxes[owners],
        )

    def _nearest(self, candidates: Tensor, boxes: Tensor) -> Tensor:
        """(match_times, N), by the L1 distance of (centre, size)."""
        cost = torch.cdist(_centre_and_size(candidates.detach()), _centre_and_size(boxes), p=1)
        return cost.topk(min(self.match_times, len(candidates)), dim=0, largest=False).indices


def _centre_and_size(boxes: Tensor) -> Tensor:
    return torch.cat([centres(boxes), boxes[:, 2:] - boxes[:, :2]], dim=1)
