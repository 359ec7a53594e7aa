"""torchvision's operators as detcfg calls them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg import ops
from detcfg.boxes.nms import apart


@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), ties=st.booleans())
def test_nms_of_known_groups_gives_what_it_gives_without_knowing_them(
    seed: int, count: int, *, ties: bool
) -> None:
    chance = torch.Generator().manual_seed(seed)
    corner, extent = (torch.rand(count, 2, generator=chance) * 40 for _ in range(2))
    groups = torch.randint(0, 4, (count,), generator=chance)
    boxes = apart(torch.cat([corner, corner + extent], 1), groups)
    scores = torch.rand(count, generator=chance)
    scores = (scores * 3).round() if ties else scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "MANY", 0)
        grouped = ops.nms(boxes, scores, 0.4, groups)

    assert grouped.tolist() == ops.nms(boxes, scores, 0.4).tolist()
