"""Adaptive training sample selection.

Shapes: A priors, N ground-truth boxes of one image, K classes.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.geometry import centres, inside
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config.ranges import Fraction, FractionOrOff, PositiveInt
from detcfg.structures import Targets


@frozen(kw_only=True)
class ATSSAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to priors by a threshold for each, from the IoUs of its nearest priors.

    ATSS (Zhang et al., 2019, https://arxiv.org/abs/1912.02424): the threshold is the mean plus the standard
    deviation of the candidates' IoUs, and a positive's centre lies in its box. Follows
    mmdet/models/task_modules/assigners/atss_assigner.py.
    """

    topk: PositiveInt = 9
    """Candidates of each ground-truth box on each level: the priors whose centres are nearest."""
    alpha: Fraction | None = None
    """With a value, candidates are compared by score^(1 - alpha) * IoU^alpha of what is predicted for
    them (DDOD, https://arxiv.org/abs/2107.02963), rather than by the IoU of the prior."""
    ignore_iof_thr: FractionOrOff = -1
    """A prior of whose area more than this share lies in an ignored box is neither positive nor negative; -1 turns
    it off."""

    @property
    def assigns_anchors(self) -> bool:
        return self.alpha is None

    def assign(
        self,
        priors: Tensor,
        num_level_priors: tuple[int, ...],
        targets: Targets,
        bboxes: Tensor | None = None,
        scores: Tensor | None = None,
    ) -> Assignment:
        """Assign the priors of all levels of one image.

        Args:
            priors: (A, 4).
            num_level_priors: How many of them belong to each level, in order.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
            bboxes: (A, 4), what is predicted for each prior; needed with `alpha`.
            scores: (A, K) logits; needed with `alpha`.
        """
        boxes, labels = targets.not_ignored.boxes, targets.not_ignored.labels
        gt_indices = torch.full((len(priors),), NEGATIVE, device=priors.device)
        if len(boxes) == 0 or len(priors) == 0:
            return Assignment(gt_indices=gt_indices, max_overlaps=priors.new_zeros(len(priors)))

        overlaps = self._quality(priors, boxes, labels, bboxes, scores)
        distances = (centres(priors)[:, None] - centres(boxes)[None]).pow(2).sum(-1).sqrt()
        if self.ignore_iof_thr > 0 and len(targets.ignored_boxes) > 0:
            shares = bbox_overlaps(priors, targets.ignored_boxes, mode="iof")
            ignored = shares.max(dim=1).values > self.ignore_iof_thr
            distances[ignored] = 1e8
            gt_indices[ignored] = IGNORED

        candidates = self._candidates(distances, num_level_priors)
        chosen = overlaps.gather(0, candidates)
        threshold = chosen.mean(0) + chosen.std(0)
        is_candidate = torch.zeros_like(overlaps, dtype=torch.bool).scatter_(
            0, candidates, chosen >= threshold
        )
        positive = is_candidate & inside(centres(priors), boxes)

        # A prior that is positive for several objects goes to the one that it overlaps most.
        max_overlaps, best = overlaps.where(positive, -1e8).max(dim=1)
        gt_indices = best.where(positive.any(dim=1), gt_indices)
        return Assignment(gt_indices=gt_indices, max_overlaps=max_overlaps)

    def assign_anchors(
        self, priors: Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        return self.assign(priors, num_level_priors, targets)

    def _quality(
        self, priors: Tensor, boxes: Tensor, labels: Tensor, bboxes: Tensor | None, scores: Tensor | None
    ) -> Tensor:
        if self.alpha is None:
            return bbox_overlaps(priors, boxes)
        if bboxes is None or scores is None:
            raise ValueError("ATSSAssignerConfig.alpha needs the predicted bboxes and scores.")
        cost = scores[:, labels].sigmoid()
        return cost ** (1 - self.alpha) * bbox_overlaps(bboxes, boxes) ** self.alpha

    def _candidates(self, distances: Tensor, num_level_priors: tuple[int, ...]) -> Tensor:
        """(C, N): indices of the `topk` priors of each level whose centres are nearest to each object's."""
        candidates: list[Tensor] = []
        start = 0
        for level in torch.split(distances, list(num_level_priors)):
            nearest = level.topk(min(self.topk, len(level)), dim=0, largest=False).indices
            candidates.append(nearest + start)
            start += len(level)
        return torch.cat(candidates)
