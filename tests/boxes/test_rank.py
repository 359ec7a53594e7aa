"""Ranks of items within their groups."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg.boxes.rank import rank_within


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 3)), max_size=20))
def test_a_rank_counts_the_items_of_its_group_that_come_before(items: list[tuple[int, int]]) -> None:
    values = torch.tensor([float(value) for value, _ in items])
    groups = torch.tensor([group for _, group in items], dtype=torch.long)

    wanted = [
        sum(g == group and (-v, j) < (-value, i) for j, (v, g) in enumerate(items))
        for i, (value, group) in enumerate(items)
    ]
    assert wanted == rank_within(values, groups).tolist()
