"""The inverse of sorting rows."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from detcfg.layers.unsort import unsort


def test_unsorting_is_the_inverse_of_sorting_and_so_is_its_gradient() -> None:
    values = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    order = torch.randperm(7)

    assert_close(unsort(values[order], order), values)
    assert torch.autograd.gradcheck(lambda rows: unsort(rows, order), values)
