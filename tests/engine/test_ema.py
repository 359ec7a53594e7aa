"""The moving average of the weights."""

from __future__ import annotations

import torch
from torch import nn

from detcfg.recipe.ema import EMAConfig


def test_the_share_of_new_weights_falls_to_the_momentum() -> None:
    config = EMAConfig(momentum=0.1, gamma=10)
    shares = [config.share(step) for step in range(200)]
    assert shares == sorted(shares, reverse=True)
    assert abs(shares[-1] - 0.1) < 1e-6


def test_the_average_is_in_place_only_for_a_while() -> None:
    model = nn.BatchNorm1d(2)
    average = EMAConfig(momentum=0.5, gamma=1).average(model)
    with torch.no_grad():
        model.weight.fill_(3)
    average.update(model, step=100)
    with average.applied(model):
        assert model.weight.tolist() == [2, 2]
    assert model.weight.tolist() == [3, 3]
