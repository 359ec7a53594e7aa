"""Sampling and weighting of negatives by the scores that a head gives them.

Shapes: n negatives of one image, of which v have a score above `score_thr`.
"""

from __future__ import annotations

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg import ops
from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.rank import rank_within
from detcfg.boxes.samplers.base import PriorScorer, SamplingResult, negatives
from detcfg.boxes.samplers.random import Pool, RandomSamplerConfig, random_choice
from detcfg.config.ranges import Fraction, PositiveFloat
from detcfg.structures import Targets


@frozen(kw_only=True)
class ScoreHLRSamplerConfig(RandomSamplerConfig):
    """Score hierarchical local rank (Cao et al., 2019, https://arxiv.org/abs/1904.04821).

    Negatives whose refined boxes overlap (as NMS would suppress them) form a group. The highest scores of all
    groups rank before the second of all groups, and so on; the higher the rank, the larger the weight in the
    classification loss. It needs a RoI head, which gives scores and boxes by a forward pass of its own.
    Follows mmdet/models/task_modules/samplers/score_hlr_sampler.py.
    """

    k: PositiveFloat = 0.5
    """Weights are raised to this power."""
    bias: Fraction = 0.0
    """The weight of the last rank, before the power."""
    score_thr: Fraction = 0.05
    """Negatives with at most this score are not ranked; they only fill up, drawn at random."""
    iou_thr: Fraction = 0.5
    """Refined boxes with at least this IoU with the highest score of a group belong to it."""

    @property
    def needs_scorer(self) -> bool:
        return True

    def sample(
        self,
        assignment: Assignment,
        priors: Tensor,
        targets: Targets,
        *,
        scorer: PriorScorer | None = None,
    ) -> SamplingResult:
        pool = self.pool(assignment, priors, targets, scorer)
        pos_inds = self.sample_positives(pool)
        neg_inds = negatives(pool.assignment)
        count = min(self.num_negatives(len(pos_inds)), len(neg_inds))
        chosen, weights = self._weighted(neg_inds, count, pool)
        neg_inds, order = neg_inds[chosen].sort()
        return evolve(pool.result(pos_inds.sort().values, neg_inds), neg_weights=weights[order])

    def _weighted(self, candidates: Tensor, count: int, pool: Pool) -> tuple[Tensor, Tensor]:
        """Sample `count` of the negatives `candidates` (n,): indices into them, and their weights."""
        if pool.scorer is None:
            raise TypeError(
                "ScoreHLRSamplerConfig ranks negatives by a head's scores and boxes, which only RoI heads give "
                "their sampler, as PISARoIHeadConfig does. Give this head a RandomSamplerConfig."
            )
        predicted = pool.scorer.predict(pool.priors[candidates])
        valid = predicted.scores > self.score_thr
        inds = valid.nonzero().squeeze(1)
        ranked = inds[
            self._importance(predicted.scores[inds], predicted.boxes[inds]).argsort(descending=True)
        ]
        ranked = ranked[:count]
        rest = random_choice((~valid).nonzero().squeeze(1), count - len(ranked))
        chosen = torch.cat([ranked, rest])
        if len(ranked) == 0:
            return chosen, torch.ones_like(predicted.scores[chosen])
        rank = torch.arange(len(chosen), device=chosen.device).clamp(max=len(ranked) - 1)
        weights = 1 - rank / max(count, len(inds))
        weights = (self.bias + (1 - self.bias) * weights).pow(self.k)
        # The weights leave the sum of the losses as it is.
        losses = predicted.background_losses[chosen]
        return chosen, weights * (losses.sum() / (losses * weights).sum())

    def _importance(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """(v,): rank in the group first, then score; larger is earlier. Scores (v,), boxes (v, 4)."""
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
