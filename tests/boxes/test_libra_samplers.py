"""The samplers of Libra R-CNN."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg.boxes.assigners.base import NEGATIVE, Assignment
from detcfg.boxes.samplers.combined import CombinedSamplerConfig
from detcfg.boxes.samplers.instance_balanced_pos import InstanceBalancedPosSamplerConfig
from detcfg.boxes.samplers.iou_balanced_neg import IoUBalancedNegSamplerConfig
from detcfg.boxes.samplers.random import balanced_choice
from detcfg.config import ConfigError
from detcfg.structures import Targets

NO_OBJECTS = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
OBJECTS = Targets(boxes=torch.rand(3, 4), labels=torch.arange(3))


@given(
    groups=st.lists(st.integers(-1, 4), max_size=30),
    quota=st.integers(0, 10),
    wanted=st.integers(0, 40),
)
def test_quotas_come_first_and_nothing_comes_twice(groups: list[int], quota: int, wanted: int) -> None:
    candidates = torch.arange(len(groups)) * 10
    chosen = balanced_choice(candidates, torch.tensor(groups, dtype=torch.long), quota, wanted)

    rows: list[int] = (chosen // 10).tolist()
    assert min(wanted, len(groups)) == len(rows) == len(set(rows))
    took = {group: sum(groups[row] == group for row in rows) for group in set(groups)}
    owed = {group: min(quota, groups.count(group)) for group in set(groups) if group >= 0}
    if sum(owed.values()) <= wanted:
        assert all(took[group] >= owed[group] for group in owed)
    else:
        assert all(took.get(group, 0) <= owed.get(group, 0) for group in set(groups))


def test_each_object_has_the_same_share_of_the_positives() -> None:
    gt_indices = torch.tensor([0] * 50 + [1] * 50 + [2] * 2)
    assignment = Assignment(gt_indices=gt_indices, max_overlaps=torch.full((102,), 0.7))
    sampler = InstanceBalancedPosSamplerConfig(num=24, pos_fraction=0.5, add_gt_as_proposals=False)

    sampling = sampler.sample(assignment, torch.rand(102, 4), OBJECTS)

    counts: list[int] = torch.bincount(sampling.pos_assigned_gt_inds, minlength=3).tolist()
    assert [5, 5, 2] == counts


@pytest.mark.parametrize(
    ("floor_thr", "floor_fraction", "least"),
    [(-1.0, 0.0, [3, 3, 3]), (0.0, 0.5, [5, 1, 1]), (0.3, 0.0, [0, 3, 3])],
)
def test_each_bin_of_overlap_has_the_same_share_of_the_negatives(
    floor_thr: float, floor_fraction: float, least: list[int]
) -> None:
    """Overlaps of 0, 0.4 and 0.8 in the bins of each case; one prior overlaps by 0.9, the highest."""
    overlaps = torch.tensor([0.0] * 20 + [0.4] * 20 + [0.8] * 20 + [0.9])
    gt_indices = torch.full((61,), NEGATIVE)
    gt_indices[-1] = 0
    sampler = IoUBalancedNegSamplerConfig(
        num=10,
        pos_fraction=0.5,
        add_gt_as_proposals=False,
        floor_thr=floor_thr,
        floor_fraction=floor_fraction,
    )

    sampling = sampler.sample(
        Assignment(gt_indices=gt_indices, max_overlaps=overlaps), torch.rand(61, 4), OBJECTS
    )

    counts: list[int] = torch.bincount(
        (overlaps[sampling.neg_inds] / 0.4).round().long(), minlength=3
    ).tolist()
    assert sum(counts) == 9
    assert all(count >= share for count, share in zip(counts, least, strict=True)), (
        counts
    )  # the rest by chance


def test_without_any_overlap_negatives_are_drawn_from_all() -> None:
    assignment = Assignment(gt_indices=torch.full((50,), NEGATIVE), max_overlaps=torch.zeros(50))

    sampling = CombinedSamplerConfig(num=8, pos_fraction=0.25).sample(
        assignment, torch.rand(50, 4), NO_OBJECTS
    )

    assert 8 == sampling.num_neg
    assert 0 == sampling.num_pos


def test_the_parts_of_a_combined_sampler_have_its_numbers() -> None:
    config = CombinedSamplerConfig(num=8, pos_fraction=0.5, neg_pos_ub=3).resolved()

    assert {(8, 0.5, 3.0)} == {
        (p.num, p.pos_fraction, p.neg_pos_ub) for p in (config.pos_sampler, config.neg_sampler)
    }


def test_a_floor_is_an_overlap() -> None:
    with pytest.raises(ConfigError, match=r"floor_thr must be float from 0 to 1, or -1 for off, not -0\.5"):
        IoUBalancedNegSamplerConfig(floor_thr=-0.5).resolved()
