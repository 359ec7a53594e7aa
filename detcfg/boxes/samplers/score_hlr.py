"""Sampling and weighting of negatives by what a head takes them for.

Shapes: n negatives of one image, of which v are valid: taken for some class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from attrs import evolve, field, frozen, validators
from torch import Tensor

from detcfg import ops
from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.rank import rank_within
from detcfg.boxes.samplers.base import Hardness, SamplingResult, negatives
from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig, random_choice
from detcfg.structures import Targets


@frozen(eq=False)
class Judgement:
    """What a head takes priors for."""

    scores: Tensor
    """(n,): the probability of the predicted_labels class."""
    boxes: Tensor
    """(n, 4): the box refined for that class."""
    losses: Tensor
    """(n,): the classification loss if the priors are background."""


class Judge(ABC):
    """A `Hardness` that says more."""

    @abstractmethod
    def __call__(self, priors: Tensor, labels: Tensor | None, /) -> Tensor:
        """The classification loss (n,) of priors (n, 4)."""

    @abstractmethod
    def judge(self, priors: Tensor) -> Judgement:
        """What the head takes priors (n, 4) for."""


@frozen(kw_only=True)
class ScoreHLRSamplerConfig(RandomSamplerConfig):
    """Score hierarchical local rank (Cao et al., 2019, https://arxiv.org/abs/1904.04821).

    Negatives that a head takes for the same object form a group. The best of all groups rank before the
    second of all groups, and so on; the higher the rank, the larger the weight. It needs `PISARoIHead`.
    Follows mmdet/models/task_modules/samplers/score_hlr_sampler.py.
    """

    k: float = 0.5
    """Weights are raised to it."""
    bias: float = field(default=0.0, validator=[validators.ge(0), validators.le(1)])
    """The weight of what has no importance, before the power."""
    score_thr: float = 0.05
    """The score that a valid negative exceeds. The others are drawn at random."""
    iou_thr: float = field(default=0.5, validator=[validators.ge(0), validators.le(1)])
    """Refined boxes that overlap the best one of a group so much belong to it."""

    def sample(
        self,
        assignment: Assignment,
        priors: Tensor,
        targets: Targets,
        *,
        hardness: Hardness | None = None,
    ) -> SamplingResult:
        pool = self.pool(assignment, priors, targets, hardness)
        pos_inds = self.positives_of(pool)
        neg_inds = negatives(pool.assignment)
        wanted = min(self.wanted_negatives(len(pos_inds)), len(neg_inds))
        chosen, weights = self._weighted(neg_inds, wanted, pool)
        neg_inds, order = neg_inds[chosen].sort()
        return evolve(pool.result(pos_inds.sort().values, neg_inds), neg_weights=weights[order])

    def _weighted(self, candidates: Tensor, wanted: int, pool: Pool) -> tuple[Tensor, Tensor]:
        """Which candidates (n,) count, as indices of them, and their weights."""
        if not isinstance(pool.hardness, Judge):
            raise TypeError(
                "ScoreHLRSamplerConfig asks a head for scores and boxes, so it needs PISARoIHeadConfig."
            )
        found = pool.hardness.judge(pool.priors[candidates])
        valid = found.scores > self.score_thr
        places = valid.nonzero().squeeze(1)
        ranked = places[self._importance(found.scores[places], found.boxes[places]).argsort(descending=True)]
        ranked = ranked[:wanted]
        rest = random_choice((~valid).nonzero().squeeze(1), wanted - len(ranked))
        chosen = torch.cat([ranked, rest])
        if len(ranked) == 0:
            return chosen, torch.ones_like(found.scores[chosen])
        rank = torch.arange(len(chosen), device=chosen.device).clamp(max=len(ranked) - 1)
        weights = 1 - rank / max(wanted, len(places))
        weights = (self.bias + (1 - self.bias) * weights).pow(self.k)
        losses = found.losses[chosen]
        return chosen, weights * (losses.sum() / (losses * weights).sum())

    def _importance(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """(v,): the more, the earlier in the two rankings, of scores (v,) and boxes (v, 4)."""
        return scores - rank_within(scores, nms_groups(boxes, scores, self.iou_thr))


def nms_groups(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """(v,) int64: the group of each of boxes (v, 4) with scores (v,).

    A group is a box that NMS keeps, and those that it is the first to suppress. Follows `nms_match` in
    mmcv/ops/nms.py.
    """
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    kept = ops.nms(boxes, scores, iou_threshold)
    numbers = torch.arange(len(kept), device=boxes.device)
    suppressed = bbox_overlaps(boxes[kept], boxes) >= iou_threshold
    groups = numbers[:, None].where(suppressed, len(kept)).amin(dim=0)
    groups[kept] = numbers
    return groups
