"""Random priors and objects for tests of what holds of all."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.structures import Targets

CLASSES = 3
SEEDS = st.integers(0, 2**32)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(count: int, draw: torch.Generator, extent: float = 60.0) -> Tensor:
    """(count, 4) of 2 to 42 pixels a side, with corners within `extent` pixels."""
    corners = torch.rand(count, 2, generator=draw) * extent
    return torch.cat([corners, corners + 2 + 40 * torch.rand(count, 2, generator=draw)], dim=1)


def objects(count: int, draw: torch.Generator, ignored: int = 0) -> Targets:
    """So many learnt objects, and after them ignored ones."""
    total = count + ignored
    return Targets(
        boxes=boxes(total, draw),
        labels=torch.randint(CLASSES, (total,), generator=draw),
        ignored=torch.arange(total) >= count if ignored else None,
    )


def reordered(targets: Targets, order: Tensor) -> Targets:
    """The same objects in another order."""
    ignored = None if targets.ignored is None else targets.ignored[order]
    return Targets(boxes=targets.boxes[order], labels=targets.labels[order], ignored=ignored)


def renamed(assignment: Assignment, order: Tensor) -> Tensor:
    """The indices of an assignment to objects in another `order`, as indices into the old one."""
    names = torch.cat([order, torch.tensor([-2, -1])])  # IGNORED and NEGATIVE, counted from the end
    return names[assignment.gt_indices]
