"""Assignment by the highest IoU.

Shapes: A priors, N ground-truth boxes of one image.
"""

from __future__ import annotations

from typing import Final, Self

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config import ConfigError
from detcfg.config.ranges import Fraction, FractionOrOff, Ordered
from detcfg.structures import Targets

MAX_PAIRS: Final = 2**23
"""Overlaps computed at a time, so that crowded images need no (N, A) matrix."""


@frozen(kw_only=True)
class MaxIoUAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to priors by IoU thresholds.

    From Faster R-CNN (Ren et al., 2015, https://arxiv.org/abs/1506.01497). Follows
    mmdet/models/task_modules/assigners/max_iou_assigner.py.

    Two anchors, one ground-truth box: the first overlaps it by half, the second not at all.

    >>> import torch
    >>> from attrs import evolve
    >>> from detcfg.structures import Targets
    >>> priors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 50.0, 50.0]])
    >>> targets = Targets(boxes=torch.tensor([[0.0, 0.0, 10.0, 20.0]]), labels=torch.tensor([3]))
    >>> assigner = MaxIoUAssignerConfig(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    >>> assigner.assign(priors, targets).max_overlaps
    tensor([0.5000, 0.0000])

    The IoU of the first is below `pos_iou_thr`, but it is the best prior that the object has, so it is positive
    (0 is the object's index). The second is negative. Without `match_low_quality` the first is ignored:

    >>> assigner.assign(priors, targets).gt_indices
    tensor([ 0, -1])
    >>> evolve(assigner, match_low_quality=False).assign(priors, targets).gt_indices
    tensor([-2, -1])
    """

    pos_iou_thr: Fraction
    """Priors with at least this IoU are positive."""
    neg_iou_thr: Fraction | Ordered[Fraction]
    """Priors below this IoU, or from the first up to the second, are negative. Others that are not positive are
    ignored. At most `pos_iou_thr`."""
    min_pos_iou: Fraction = 0.0
    """The least IoU of a low-quality match."""
    gt_max_assign_all: bool = True
    """Whether all of an object's equally good best priors are low-quality matches, or one."""
    ignore_iof_thr: FractionOrOff = -1.0
    """Priors that an ignored box covers by more than this share are neither positive nor negative; -1 turns it
    off."""
    ignore_wrt_candidates: bool = True
    """Whether the share is of the prior's area or of the ignored box's."""
    match_low_quality: bool = True
    """Whether an object's best priors are positive even below `pos_iou_thr`; a prior that is the best of several
    objects goes to the last of them."""

    def wired(self) -> Self:
        most = self.neg_iou_thr[1] if isinstance(self.neg_iou_thr, tuple) else self.neg_iou_thr
        if most > self.pos_iou_thr:
            raise ConfigError(
                f"neg_iou_thr is {self.neg_iou_thr}, above pos_iou_thr, {self.pos_iou_thr}: a prior between them "
                "would be both. Lower neg_iou_thr, or raise pos_iou_thr."
            )
        return super().wired()

    def assign(self, priors: Tensor, targets: Targets) -> Assignment:
        """Assign the priors of one image.

        Args:
            priors: (A, 4).
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        return self._assign(priors, priors[:, None], targets)

    def _assign(self, priors: Tensor, shapes: Tensor, targets: Targets) -> Assignment:
        """Assign priors (A, 4), each by that of its shapes (A, n, 4) which overlaps an object most."""
        boxes = targets.not_ignored.boxes
        gt_indices = torch.full((len(priors),), NEGATIVE, device=priors.device)
        if len(boxes) == 0 or len(priors) == 0:
            # As in MMDetection, without objects the priors in ignored boxes are negative too.
            return Assignment(gt_indices=gt_indices, max_overlaps=priors.new_zeros(len(priors)))

        max_overlaps, nearest, low_quality_match = self._match(shapes, boxes, self._ignored(priors, targets))
        low, high = self.neg_iou_thr if isinstance(self.neg_iou_thr, tuple) else (0.0, self.neg_iou_thr)
        negative = (max_overlaps >= low) & (max_overlaps < high)
        gt_indices = gt_indices.where(negative, IGNORED)
        gt_indices = nearest.where(max_overlaps >= self.pos_iou_thr, gt_indices)
        gt_indices = low_quality_match.where(low_quality_match >= 0, gt_indices)
        return Assignment(gt_indices=gt_indices, max_overlaps=max_overlaps)

    def assign_anchors(
        self, priors: Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        del num_level_priors
        return self.assign(priors, targets)

    def _ignored(self, priors: Tensor, targets: Targets) -> Tensor | None:
        """(A,) bool: the priors that an ignored box covers."""
        ignored_boxes = targets.ignored_boxes
        if self.ignore_iof_thr <= 0 or len(ignored_boxes) == 0:
            return None
        covered = torch.zeros(len(priors), dtype=torch.bool, device=priors.device)
        for part in torch.split(ignored_boxes, max(1, MAX_PAIRS // len(priors))):
            if self.ignore_wrt_candidates:
                shares = bbox_overlaps(priors, part, mode="iof").amax(dim=1)
            else:
                shares = bbox_overlaps(part, priors, mode="iof").amax(dim=0)
            covered |= shares > self.ignore_iof_thr
        return covered

    def _match(self, shapes: Tensor, boxes: Tensor, ignored: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """For each prior (A,): its highest IoU, with which box, and the box of its low-quality match or -1.

        Boxes come some at a time; what is kept from one part to the next is linear in A.
        """
        count, choice = shapes.shape[:2]
        flat = shapes.flatten(0, 1)
        max_overlaps = flat.new_full((count,), -torch.inf)
        nearest = torch.zeros(count, dtype=torch.long, device=flat.device)
        low_quality_match = torch.full_like(nearest, -1)
        first = 0
        for part in torch.split(boxes, max(1, MAX_PAIRS // len(flat))):
            overlaps = bbox_overlaps(part, flat)
            if choice > 1:
                overlaps = torch.unflatten(overlaps, 1, (count, choice)).amax(dim=2)
            if ignored is not None:
                overlaps = overlaps.masked_fill(ignored, -1)
            best, index = overlaps.max(dim=0)
            nearest = torch.where(best > max_overlaps, index + first, nearest)
            max_overlaps = torch.maximum(best, max_overlaps)
            if self.match_low_quality:
                low_quality_match = torch.maximum(
                    low_quality_match, self._low_quality_matches(overlaps, first)
                )
            first += len(part)
        return max_overlaps, nearest, low_quality_match

    def _low_quality_matches(self, overlaps: Tensor, first: int) -> Tensor:
        """(A,): the index of the last box whose best prior this is, counted from `first`; -1 for no box."""
        highest, best = overlaps.max(dim=1)
        numbers = torch.arange(first, first + len(overlaps), device=overlaps.device)
        numbers = numbers.where(highest >= self.min_pos_iou, -1)
        if self.gt_max_assign_all:
            return torch.where(overlaps == highest[:, None], numbers[:, None], -1).amax(dim=0)
        none = torch.full((overlaps.shape[1],), -1, device=overlaps.device)
        return none.scatter_reduce(0, best, numbers, "amax")
