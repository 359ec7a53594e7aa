"""Balanced L1 loss."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from detcfg.losses.balanced_l1 import BalancedL1LossConfig


@given(st.floats(0.2, 0.9), st.floats(1, 3))
def test_the_two_pieces_meet_at_beta_with_gradient_gamma(alpha: float, gamma: float) -> None:
    loss = BalancedL1LossConfig(alpha=alpha, gamma=gamma, beta=1.0, reduction="sum").build()
    below = tensor([1 - 1e-4], dtype=torch.float64, requires_grad=True)
    above = tensor([1 + 1e-4], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)

    low, high = loss(below, zero), loss(above, zero)
    (low + high).backward()

    assert abs(high - low) < 1e-3
    assert above.grad is not None
    assert below.grad is not None
    torch.testing.assert_close(above.grad, tensor([gamma], dtype=torch.float64))
    torch.testing.assert_close(below.grad, above.grad, atol=1e-2, rtol=0)


def test_balanced_l1_loss_is_its_equation() -> None:
    loss = BalancedL1LossConfig(alpha=0.5, gamma=1.5, beta=1.0, reduction="none").build()

    values = loss(tensor([0.5, 3.0]), tensor([0.0, 0.0]))

    b = math.exp(3) - 1
    small = 0.5 / b * (b * 0.5 + 1) * math.log(b * 0.5 + 1) - 0.5 * 0.5
    torch.testing.assert_close(values, tensor([small, 1.5 * 3 + 1.5 / b - 0.5]))
