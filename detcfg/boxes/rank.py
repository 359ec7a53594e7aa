"""Ranks of items within their groups. n items."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_within(values: Tensor, groups: Tensor) -> Tensor:
    """(n,) int64: how many items of the same group come before each, by falling value.

    Args:
        values: (n,). Of equal ones the first comes first.
        groups: (n,) int.
    """
    by_value = values.argsort(descending=True, stable=True)
    ordered, by_group = groups[by_value].sort(stable=True)
    position = torch.arange(len(ordered), device=ordered.device)
    ranks = torch.empty_like(position)
    ranks[by_value[by_group]] = position - torch.searchsorted(ordered, ordered)
    return ranks
