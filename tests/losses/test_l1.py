"""L1, smooth L1 and squared error, by their equations."""

from __future__ import annotations

import pytest
import torch

from detcfg.config import ConfigError
from detcfg.losses.l1 import l1_loss
from detcfg.losses.mse import MSELossConfig, mse_loss
from detcfg.losses.smooth_l1 import SmoothL1LossConfig, smooth_l1_loss

PRED, TARGET = torch.tensor([0.0, 0.5, 2.0, -3.0]), torch.zeros(4)


def test_worked_examples() -> None:
    assert l1_loss(PRED, TARGET).tolist() == [0, 0.5, 2, 3]
    assert mse_loss(PRED, TARGET).tolist() == [0, 0.25, 4, 9]
    assert smooth_l1_loss(PRED, TARGET, beta=1.0).tolist() == [0, 0.125, 1.5, 2.5]


def test_a_mean_square_is_the_mean_of_the_squares() -> None:
    assert MSELossConfig(loss_weight=4.0).build()(PRED, TARGET) == 13.25


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0])
def test_smooth_l1_and_its_slope_are_continuous_at_beta(beta: float) -> None:
    at = torch.tensor([beta - 1e-4, beta + 1e-4], requires_grad=True)
    loss = smooth_l1_loss(at, torch.zeros(2), beta=beta)
    loss.sum().backward()

    torch.testing.assert_close(loss[0], loss[1], atol=1e-3, rtol=0)
    assert at.grad is not None
    torch.testing.assert_close(at.grad, torch.ones(2), atol=2e-3, rtol=0)


def test_a_beta_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="beta must be float above 0"):
        SmoothL1LossConfig(beta=0.0).build()
