"""Samplers: how many they take of what, whatever the assignment is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, Assignment
from detcfg.boxes.samplers.base import PriorPredictions, PriorScorer, SamplerConfig, SamplingResult
from detcfg.boxes.samplers.combined import CombinedSamplerConfig
from detcfg.boxes.samplers.instance_balanced_pos import InstanceBalancedPosSamplerConfig
from detcfg.boxes.samplers.iou_balanced_neg import IoUBalancedNegSamplerConfig
from detcfg.boxes.samplers.ohem import OHEMSamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.boxes.samplers.score_hlr import ScoreHLRSamplerConfig
from detcfg.structures import Targets
from tests.support.worlds import SEEDS, boxes, generator, objects


class Head(PriorScorer):
    """Does worse the further right a prior is."""

    def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
        del labels
        return priors[:, 0]

    def predict(self, priors: Tensor) -> PriorPredictions:
        return PriorPredictions(scores=priors[:, 0] / 200, boxes=priors, background_losses=priors[:, 0])


KINDS: tuple[Callable[..., RandomSamplerConfig], ...] = (
    RandomSamplerConfig,
    InstanceBalancedPosSamplerConfig,
    IoUBalancedNegSamplerConfig,
    CombinedSamplerConfig,
    OHEMSamplerConfig,
    ScoreHLRSamplerConfig,
)
WORLDS = st.tuples(SEEDS, st.integers(0, 40), st.integers(0, 4))
"""Seed, priors, objects."""


def world(seed: int, count: int, number: int) -> tuple[Assignment, Tensor, Targets]:
    """Priors that learn one of the objects, background or nothing, at random."""
    draw = generator(seed)
    assignment = Assignment(
        gt_indices=torch.randint(IGNORED, number, (count,), generator=draw),
        max_overlaps=torch.rand(count, generator=draw),
    )
    return assignment, boxes(count, draw), objects(number, draw)


def sampled(sampler: SamplerConfig, given: tuple[Assignment, Tensor, Targets]) -> SamplingResult:
    torch.manual_seed(0)
    return sampler.resolved().sample(*given, scorer=Head())


@pytest.mark.parametrize("kind", KINDS)
@given(
    given=WORLDS,
    num=st.integers(1, 30),
    pos_fraction=st.floats(0, 1),
    neg_pos_ub=st.sampled_from([-1.0, 0.0, 2.0]),
    add=st.booleans(),
)
def test_counts_are_kept_and_nothing_is_taken_twice(
    *,
    kind: Callable[..., RandomSamplerConfig],
    given: tuple[int, int, int],
    num: int,
    pos_fraction: float,
    neg_pos_ub: float,
    add: bool,
) -> None:
    assignment, priors, targets = world(*given)
    sampler = kind(num=num, pos_fraction=pos_fraction, neg_pos_ub=neg_pos_ub, add_gt_as_proposals=add)

    found = sampled(sampler, (assignment, priors, targets))

    added = len(targets) if add else 0
    learns = torch.cat([torch.arange(added), assignment.gt_indices])
    there_pos, there_neg = int((learns >= 0).sum()), int((learns == NEGATIVE).sum())
    positives: list[int] = found.pos_inds.tolist()
    negatives: list[int] = found.neg_inds.tolist()
    assert positives == sorted(set(positives))
    assert negatives == sorted(set(negatives))
    assert (learns[found.pos_inds] >= 0).all()
    assert (learns[found.neg_inds] == NEGATIVE).all()
    assert len(positives) == min(there_pos, int(num * pos_fraction))
    wanted = num - len(positives)
    if neg_pos_ub >= 0:
        wanted = min(wanted, int(neg_pos_ub * max(1, len(positives))))
    assert len(negatives) == min(there_neg, wanted)
    assert sampler.max_samples == num
    assert len(positives) + len(negatives) <= num


@pytest.mark.parametrize("kind", [*KINDS, PseudoSamplerConfig])
@given(WORLDS)
def test_what_is_gathered_belongs_to_what_is_sampled(
    kind: Callable[..., SamplerConfig], given: tuple[int, int, int]
) -> None:
    assignment, priors, targets = world(*given)
    sampler = kind()
    number = len(targets) if sampler.adds_objects else 0
    grown = torch.cat([targets.boxes[:number], priors])
    learns = torch.cat([torch.arange(number), assignment.gt_indices])

    found = sampled(sampler, (assignment, priors, targets))

    assert found.priors.equal(torch.cat([grown[found.pos_inds], grown[found.neg_inds]]))
    assert found.pos_assigned_gt_inds.equal(learns[found.pos_inds])
    assert found.pos_gt_bboxes.equal(targets.boxes[found.pos_assigned_gt_inds])
    assert found.pos_gt_labels.equal(targets.labels[found.pos_assigned_gt_inds])
    assert found.pos_is_gt.equal(found.pos_inds < number)


@given(WORLDS)
def test_without_sampling_all_count(given: tuple[int, int, int]) -> None:
    assignment, priors, targets = world(*given)

    found = sampled(PseudoSamplerConfig(), (assignment, priors, targets))

    assert found.num_pos == (assignment.gt_indices >= 0).sum()
    assert found.num_neg == (assignment.gt_indices == NEGATIVE).sum()
    assert found.avg_factor == max(1, found.num_pos)
    assert PseudoSamplerConfig().max_samples is None


def test_each_candidate_is_as_likely_as_another() -> None:
    """Of 8 positives and 8 negatives 2 each are drawn, 4,000 times: each 1,000 times, give or take 5 sigma."""
    assignment = Assignment(gt_indices=torch.tensor([0, NEGATIVE] * 8), max_overlaps=torch.ones(16))
    draw = generator(0)
    priors, targets = boxes(16, draw), objects(1, draw)
    torch.manual_seed(0)
    counts = torch.zeros(16)
    for _ in range(4000):
        sampler = RandomSamplerConfig(num=4, pos_fraction=0.5, add_gt_as_proposals=False)
        found = sampler.sample(assignment, priors, targets)
        counts[torch.cat([found.pos_inds, found.neg_inds])] += 1

    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5
