"""Initial weights have the distributions that their names promise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from detcfg.layers.init import (
    bias_init_with_prob,
    caffe2_xavier_init,
    constant_init,
    kaiming_init,
    normal_init,
    trunc_normal_init,
    xavier_init,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FAN_IN, FAN_OUT = 16 * 9, 64 * 9


def layer() -> nn.Conv2d:
    return nn.Conv2d(16, 64, 3)


@pytest.mark.parametrize(
    ("initialise", "variance"),
    [
        (lambda conv: normal_init(conv, std=0.3, mean=2.0), 0.3**2),
        (xavier_init, 2 / (FAN_IN + FAN_OUT)),
        (lambda conv: xavier_init(conv, gain=3.0, distribution="uniform"), 9 * 2 / (FAN_IN + FAN_OUT)),
        (kaiming_init, 2 / FAN_OUT),
        (lambda conv: kaiming_init(conv, a=3.0), 2 / FAN_OUT),  # a is of "leaky_relu" alone
        (lambda conv: kaiming_init(conv, a=3.0, nonlinearity="leaky_relu"), 2 / 10 / FAN_OUT),
        (lambda conv: kaiming_init(conv, mode="fan_in", distribution="uniform"), 2 / FAN_IN),
        (caffe2_xavier_init, 1 / FAN_IN),
    ],
)
def test_the_variance_is_that_of_the_method(initialise: Callable[[nn.Module], None], variance: float) -> None:
    torch.manual_seed(0)
    conv = layer()
    initialise(conv)

    assert conv.weight.var().item() == pytest.approx(variance, rel=0.05)  # of 9,216 weights
    assert conv.bias is not None
    assert torch.equal(torch.zeros(64), conv.bias)


def test_uniform_weights_are_bounded() -> None:
    conv = layer()
    caffe2_xavier_init(conv)
    assert conv.weight.abs().max() <= math.sqrt(3 / FAN_IN)


def test_a_normal_distribution_is_cut_at_its_bounds() -> None:
    conv = layer()
    trunc_normal_init(conv, std=1.0, bound=0.5)
    assert 0.49 < conv.weight.abs().max() <= 0.5


def test_a_constant_goes_to_the_weight_and_another_to_the_bias() -> None:
    conv = layer()
    constant_init(conv, 3.0, bias=-2.0)
    assert conv.weight.unique().tolist() == [3.0]
    assert conv.bias is not None
    assert conv.bias.unique().tolist() == [-2.0]


@pytest.mark.parametrize("initialise", [normal_init, xavier_init, kaiming_init, trunc_normal_init])
def test_layers_without_weight_or_bias_are_left_alone(initialise: Callable[[nn.Module], None]) -> None:
    initialise(nn.ReLU())
    initialise(nn.Conv2d(2, 2, 1, bias=False))
    initialise(nn.Conv2d(2, 2, 1, device="meta"))


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9])
def test_the_sigmoid_of_the_bias_is_the_prior_probability(probability: float) -> None:
    assert torch.tensor(bias_init_with_prob(probability)).sigmoid().item() == pytest.approx(probability)
