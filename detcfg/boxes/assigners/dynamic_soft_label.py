"""Assignment by a cost with soft labels (IoUs).

Shapes: A priors, N ground-truth boxes of one image, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg import masks
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.sim_ota import EPS, assigned, dynamic_k_matching, no_assignment
from detcfg.boxes.geometry import centres, inside
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from detcfg.structures import Targets


@frozen(kw_only=True)
class DynamicSoftLabelAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to priors by SimOTA with soft labels and a cost of the distance (RTMDet).

    Lyu et al., 2022, https://arxiv.org/abs/2212.07784. Follows
    mmdet/models/task_modules/assigners/dynamic_soft_label_assigner.py.
    """

    soft_center_radius: PositiveFloat = 3.0
    """At this distance from an object's centre, in strides, a prior costs 1 more; it is a power of 10."""
    topk: PositiveInt = 13
    """An object gets as many priors as the sum of this many highest IoUs, rounded down, at least one."""
    iou_weight: NonNegativeFloat = 3.0
    """Weight of -log(IoU) in the cost."""
    mask_centres: bool = False
    """Whether an object's centre is its mask's centre of mass, or that of its box. (MMDetection goes by
    whether masks were loaded.)"""

    def assign(self, priors: Tensor, bboxes: Tensor, scores: Tensor, targets: Targets) -> Assignment:
        """Assign the priors of one image; those in no object's box are negative.

        Args:
            priors: (A, 4) = (x, y, stride in x, stride in y).
            bboxes: (A, 4), what is predicted for each prior.
            scores: (A, K) logits.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        objects = targets.not_ignored
        boxes = objects.boxes
        valid = torch.nonzero(inside(priors[:, :2], boxes, 0).any(dim=1)).squeeze(1)
        unassigned = no_assignment(priors)
        if len(valid) == 0:
            return unassigned
        overlaps = bbox_overlaps(bboxes[valid], boxes)
        cost = soft_label_entropy(scores[valid], objects.labels, overlaps)
        cost = cost - self.iou_weight * (overlaps + EPS).log() + self._distance_cost(priors[valid], objects)
        return assigned(unassigned, valid, dynamic_k_matching(cost, overlaps, self.topk), overlaps)

    def _distance_cost(self, priors: Tensor, objects: Targets) -> Tensor:
        """(A, N): the cost of the distance between prior and centre."""
        middles = centres(objects.boxes)
        if self.mask_centres and objects.masks is not None:
            middles = masks.centres(objects.masks)
        distances = (priors[:, None, :2] - middles).pow(2).sum(-1).sqrt() / priors[:, 2:3]
        return torch.pow(10, distances - self.soft_center_radius)


def soft_label_entropy(logits: Tensor, labels: Tensor, overlaps: Tensor) -> Tensor:
    """(A, N): the quality focal loss of logits (A, K), summed over K, if each label (N,) were the target.

    The target is the IoU (A, N) at the label and 0 elsewhere. No (A, N, K) tensor is made.
    """
    logits = logits.float()
    background = F.softplus(logits) * logits.sigmoid().square()
    chosen = logits[:, labels]
    entropy = F.binary_cross_entropy_with_logits(chosen, overlaps, reduction="none")
    at_label = entropy * (overlaps - chosen.sigmoid()).square()
    return background.sum(dim=1, keepdim=True) - background[:, labels] + at_label
