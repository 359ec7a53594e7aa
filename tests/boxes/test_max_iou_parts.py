"""The objects of a crowded image are matched some at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from detcfg.boxes.assigners import max_iou
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.structures import Targets


def boxes(chance: torch.Generator, count: int) -> torch.Tensor:
    """On a coarse grid, so that overlaps tie."""
    corner, extent = (torch.randint(0, 6, (count, 2), generator=chance).float() for _ in range(2))
    return torch.cat([corner, corner + extent + 1], 1)


@given(seed=st.integers(0, 10_000), objects=st.integers(1, 9), priors=st.integers(1, 30), every=st.booleans())
def test_it_makes_no_difference_how_many_are_matched_at_a_time(
    seed: int, objects: int, priors: int, *, every: bool
) -> None:
    chance = torch.Generator().manual_seed(seed)
    targets = Targets(
        boxes=boxes(chance, objects),
        labels=torch.zeros(objects, dtype=torch.long),
        ignored=torch.rand(objects, generator=chance) < 0.2,
    )
    candidates = boxes(chance, priors)
    assigner = MaxIoUAssignerConfig(
        pos_iou_thr=0.6, neg_iou_thr=0.3, gt_max_assign_all=every, ignore_iof_thr=0.5
    )
    whole = assigner.assign(candidates, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(max_iou, "MAX_PAIRS", 2 * priors)
        parts = assigner.assign(candidates, targets)

    assert_close(parts.gt_indices, whole.gt_indices, rtol=0, atol=0)
    assert_close(parts.max_overlaps, whole.max_overlaps, rtol=0, atol=0)
