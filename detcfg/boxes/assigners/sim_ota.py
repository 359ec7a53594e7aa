"""Assignment by a simplified optimal transport.

Shapes: A priors, N ground-truth boxes of one image, K classes.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.geometry import boxes_around, centres, inside
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from detcfg.structures import Targets

FAR = 1e5
"""Added to the cost of a prior that is not both in an object's box and near its centre."""
EPS = 1e-7
"""The least IoU in the logarithm."""


@frozen(kw_only=True)
class SimOTAAssignerConfig(AssignerConfig):
    """Assigns each ground-truth box to its cheapest priors, the more the better its predictions are (YOLOX).

    Ge et al., 2021, https://arxiv.org/abs/2107.08430. Follows mmdet/models/task_modules/assigners/sim_ota_assigner.py.
    """

    center_radius: PositiveFloat = 2.5
    """How near to an object's centre a prior should be, in strides."""
    candidate_topk: PositiveInt = 10
    """An object gets as many priors as the sum of this many highest IoUs, rounded down, at least one."""
    iou_weight: NonNegativeFloat = 3.0
    """Weight of -log(IoU) in the cost."""
    cls_weight: NonNegativeFloat = 1.0
    """Weight of the classes' cross-entropy in the cost."""

    def assign(self, priors: Tensor, bboxes: Tensor, scores: Tensor, targets: Targets) -> Assignment:
        """Assign the priors of one image.

        Args:
            priors: (A, 4) = (x, y, stride in x, stride in y).
            bboxes: (A, 4), what is predicted for each prior.
            scores: (A, K) probabilities.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        boxes, labels = targets.not_ignored.boxes, targets.not_ignored.labels
        in_box = inside(priors[:, :2], boxes, 0)
        in_centre = self._in_centre(priors, boxes)
        valid = torch.nonzero((in_box | in_centre).any(dim=1)).squeeze(1)
        unassigned = no_assignment(priors)
        if len(valid) == 0:
            return unassigned
        overlaps = bbox_overlaps(bboxes[valid], boxes)
        cost = self.cls_weight * one_hot_entropy(scores[valid], labels)
        cost = cost - self.iou_weight * (overlaps + EPS).log()
        cost = cost + FAR * ~(in_box & in_centre)[valid]
        return assigned(unassigned, valid, dynamic_k_matching(cost, overlaps, self.candidate_topk), overlaps)

    def _in_centre(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """(A, N): whether a prior is near an object's centre."""
        reach = self.center_radius * priors[:, None, 2:]
        # Corners rather than the distance to the centre, for MMDetection's rounding.
        return inside(priors[:, :2], boxes_around(centres(boxes), reach), 0)


def one_hot_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """(A, N): the binary cross-entropy of probabilities (A, K) against each label (N,), summed over K.

    Logarithms end at -100, as PyTorch's do. No (A, N, K) tensor is made.
    """
    scores = scores.float()
    wrong, right = -(1 - scores).log().clamp(min=-100), -scores.log().clamp(min=-100)
    return wrong.sum(dim=1, keepdim=True) + (right - wrong)[:, labels]


def dynamic_k_matching(cost: Tensor, overlaps: Tensor, topk: int) -> Tensor:
    """Match priors with objects by the cost; a prior gets at most one object.

    Args:
        cost: (A, N).
        overlaps: (A, N) IoUs. An object gets as many priors as the sum of its highest, at least 1.
        topk: How many of the highest.

    Returns:
        (A, N) bool. A prior that several objects chose goes to the object (of all) of least cost.
    """
    highest = overlaps.topk(min(topk, len(overlaps)), dim=0).values
    counts = highest.sum(dim=0).int().clamp(min=1)
    order = cost.topk(int(counts.max()), dim=0, largest=False).indices
    ranks = torch.arange(len(order), device=cost.device)[:, None]
    matched = torch.zeros_like(cost, dtype=torch.bool).scatter_(0, order, ranks < counts)
    cheapest = torch.zeros_like(matched).scatter_(1, cost.argmin(dim=1, keepdim=True), value=True)
    return torch.where(matched.sum(dim=1, keepdim=True) > 1, cheapest, matched)


def no_assignment(priors: Tensor) -> Assignment:
    """All priors (A, ...) are negative."""
    gt_indices = torch.full((len(priors),), NEGATIVE, device=priors.device)
    return Assignment(gt_indices=gt_indices, max_overlaps=priors.new_zeros(len(priors)))


def assigned(nothing: Assignment, rows: Tensor, matched: Tensor, overlaps: Tensor) -> Assignment:
    """`nothing` (A,), with the priors `rows` (V,) assigned to the objects that they are `matched` with (V, N)."""
    positive = matched.any(dim=1)
    gt_indices = matched.int().argmax(dim=1).where(positive, NEGATIVE)
    return Assignment(
        gt_indices=nothing.gt_indices.index_copy(0, rows, gt_indices),
        max_overlaps=nothing.max_overlaps.index_copy(0, rows, (matched * overlaps).sum(dim=1)),
    )
