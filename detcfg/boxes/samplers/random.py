"""Random sampling of a fixed number of positives and negatives."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.rank import rank_within
from detcfg.boxes.samplers.base import (
    PriorScorer,
    SamplerConfig,
    SamplingResult,
    negatives,
    positives,
    sampling_result,
    with_objects,
)
from detcfg.config.ranges import Fraction, Or, PositiveInt
from detcfg.structures import Targets


@frozen(eq=False)
class Pool:
    """The candidates of one image, and what a sampler may choose them by."""

    assignment: Assignment
    """The ground truth of each prior."""
    priors: Tensor
    """(A, 4)."""
    targets: Targets
    """The ground-truth objects that are not ignored."""
    scorer: PriorScorer | None
    """The head in training; None where there is none to ask."""
    num_added: int
    """Ground-truth boxes that were added before the priors."""

    def result(self, pos_inds: Tensor, neg_inds: Tensor) -> SamplingResult:
        """The result for the sampled priors."""
        return sampling_result(
            self.assignment,
            self.priors,
            self.targets,
            pos_inds=pos_inds,
            neg_inds=neg_inds,
            num_added=self.num_added,
        )


@frozen(kw_only=True)
class RandomSamplerConfig(SamplerConfig):
    """Positives up to a fraction of the samples, then negatives to fill up, drawn at random.

    A subclass overrides `choose_positives` and `choose_negatives`. Follows
    mmdet/models/task_modules/samplers/random_sampler.py.
    """

    num: PositiveInt = 512
    """Samples an image."""
    pos_fraction: Fraction = 0.25
    """At most this fraction of the samples are positives."""
    neg_pos_ub: Annotated[float, Ge(0), Or(-1, "no bound")] = -1.0
    """At most this many negatives for each positive; -1: no bound."""
    add_gt_as_proposals: bool = True
    """Whether ground-truth boxes join the proposals, so that early training has positives."""

    @property
    def adds_objects(self) -> bool:
        return self.add_gt_as_proposals

    @property
    def max_samples(self) -> int:
        return self.num

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
        count = self.num_negatives(len(pos_inds))
        if len(neg_inds) > count:
            neg_inds = self.choose_negatives(neg_inds, count, pool)
        return pool.result(pos_inds.sort().values, neg_inds.sort().values)

    def pool(
        self, assignment: Assignment, priors: Tensor, targets: Targets, scorer: PriorScorer | None
    ) -> Pool:
        """The candidates, with the ground-truth boxes before them if `add_gt_as_proposals`."""
        if self.add_gt_as_proposals:
            assignment, priors = with_objects(assignment, priors, targets)
        added = len(targets.not_ignored) if self.add_gt_as_proposals else 0
        return Pool(assignment, priors, targets.not_ignored, scorer, added)

    def sample_positives(self, pool: Pool) -> Tensor:
        """Indices of the sampled positives, at most `num * pos_fraction`."""
        pos_inds = positives(pool.assignment)
        count = int(self.num * self.pos_fraction)
        return self.choose_positives(pos_inds, count, pool) if len(pos_inds) > count else pos_inds

    def num_negatives(self, num_pos: int) -> int:
        """At most so many negatives are sampled beside `num_pos` positives."""
        count = self.num - num_pos
        return count if self.neg_pos_ub < 0 else min(count, int(self.neg_pos_ub * max(1, num_pos)))

    def choose_positives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        """`count` of the indices `candidates` of positives, which are more than that."""
        del pool
        return random_choice(candidates, count)

    def choose_negatives(self, candidates: Tensor, count: int, pool: Pool) -> Tensor:
        """`count` of the indices `candidates` of negatives, which are more than that."""
        del pool
        return random_choice(candidates, count)


def random_choice(candidates: Tensor, count: int) -> Tensor:
    """At most `count` of the items (n,), each as likely as another, in random order."""
    return candidates[torch.randperm(len(candidates), device=candidates.device)[:count]]


def balanced_choice(candidates: Tensor, groups: Tensor, quota: int, count: int) -> Tensor:
    """At most `count` of the items (n,), at random, but first at most `quota` of each group.

    Args:
        candidates: (n,).
        groups: (n,) int, the group of each; items of a negative one only fill up.
        quota: How many of each group go first.
        count: How many of all. More quotas than that are cut at random.
    """
    shuffled = torch.randperm(len(candidates), device=candidates.device)
    candidates, groups = candidates[shuffled], groups[shuffled]
    first = (rank_within(torch.zeros_like(groups), groups) < quota) & (groups >= 0)
    return candidates[first.int().argsort(descending=True, stable=True)[:count]]
