"""Random sampling of a fixed number of priors."""

from __future__ import annotations

import torch
from attrs import field, frozen, validators
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.rank import rank_within
from detcfg.boxes.samplers.base import (
    Hardness,
    SamplerConfig,
    SamplingResult,
    negatives,
    positives,
    sampling_result,
    with_objects,
)
from detcfg.structures import Targets


@frozen(eq=False)
class Pool:
    """What a sampler chooses from."""

    assignment: Assignment
    """What each prior is to learn."""
    priors: Tensor
    """(A, 4)."""
    targets: Targets
    """The learnt objects."""
    hardness: Hardness | None
    """How badly a head does, or None."""
    num_added: int
    """How many objects were added before the priors."""

    def result(self, pos_inds: Tensor, neg_inds: Tensor) -> SamplingResult:
        """What belongs to the chosen priors."""
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
    """Positives up to a share, and negatives that fill up, drawn at random.

    Subclasses choose otherwise by `choose_positives` and `choose_negatives`. Follows
    mmdet/models/task_modules/samplers/random_sampler.py.
    """

    num: int = field(default=512, validator=validators.ge(1))
    """How many priors of an image count."""
    pos_fraction: float = field(default=0.25, validator=[validators.ge(0), validators.le(1)])
    """The largest share of positives among them."""
    neg_pos_ub: float = -1.0
    """At most so many negatives for one positive; -1 for no bound."""
    add_gt_as_proposals: bool = True
    """Whether the objects themselves join the priors, so that early training has positives."""

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
        hardness: Hardness | None = None,
    ) -> SamplingResult:
        pool = self.pool(assignment, priors, targets, hardness)
        pos_inds = self.positives_of(pool)
        neg_inds = negatives(pool.assignment)
        wanted = self.wanted_negatives(len(pos_inds))
        if len(neg_inds) > wanted:
            neg_inds = self.choose_negatives(neg_inds, wanted, pool)
        return pool.result(pos_inds.sort().values, neg_inds.sort().values)

    def pool(
        self, assignment: Assignment, priors: Tensor, targets: Targets, hardness: Hardness | None
    ) -> Pool:
        """What there is to choose from, perhaps with the objects before it."""
        if self.add_gt_as_proposals:
            assignment, priors = with_objects(assignment, priors, targets)
        added = len(targets.not_ignored) if self.add_gt_as_proposals else 0
        return Pool(assignment, priors, targets.not_ignored, hardness, added)

    def positives_of(self, pool: Pool) -> Tensor:
        """Indices of the positives that count."""
        pos_inds = positives(pool.assignment)
        wanted = int(self.num * self.pos_fraction)
        return self.choose_positives(pos_inds, wanted, pool) if len(pos_inds) > wanted else pos_inds

    def wanted_negatives(self, num_pos: int) -> int:
        """How many negatives go with so many positives."""
        wanted = self.num - num_pos
        return wanted if self.neg_pos_ub < 0 else min(wanted, int(self.neg_pos_ub * max(1, num_pos)))

    def choose_positives(self, candidates: Tensor, wanted: int, pool: Pool) -> Tensor:
        """`wanted` of the indices `candidates`, of which there are more."""
        del pool
        return random_choice(candidates, wanted)

    def choose_negatives(self, candidates: Tensor, wanted: int, pool: Pool) -> Tensor:
        """`wanted` of the indices `candidates`, of which there are more."""
        del pool
        return random_choice(candidates, wanted)


def random_choice(candidates: Tensor, wanted: int) -> Tensor:
    """At most `wanted` of the items (n,), each as likely as another, in random order."""
    return candidates[torch.randperm(len(candidates), device=candidates.device)[:wanted]]


def balanced_choice(candidates: Tensor, groups: Tensor, quota: int, wanted: int) -> Tensor:
    """At most `wanted` of the items (n,), at random, but first at most `quota` of each group.

    Args:
        candidates: (n,).
        groups: (n,) int, the group of each; items of a negative one only fill up.
        quota: How many of each group go first.
        wanted: How many of all. More quotas than that are cut at random.
    """
    shuffled = torch.randperm(len(candidates), device=candidates.device)
    candidates, groups = candidates[shuffled], groups[shuffled]
    first = (rank_within(torch.zeros_like(groups), groups) < quota) & (groups >= 0)
    return candidates[first.int().argsort(descending=True, stable=True)[:wanted]]
