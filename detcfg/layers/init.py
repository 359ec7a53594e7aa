"""Weight initialisation under MMEngine's names and defaults (mmengine/model/weight_init.py).

Each takes one layer and sets its weight, and its bias, where it has one, to `bias`; on the meta device too.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

Distribution = Literal["normal", "uniform"]


def _fill_bias(layer: nn.Module, bias: float) -> None:
    parameter = getattr(layer, "bias", None)
    if isinstance(parameter, Tensor):
        nn.init.constant_(parameter, bias)


def _weight(layer: nn.Module) -> Tensor | None:
    parameter = getattr(layer, "weight", None)
    return parameter if isinstance(parameter, Tensor) else None


def constant_init(layer: nn.Module, value: float, bias: float = 0.0) -> None:
    """Sets every weight to `value`."""
    if (weight := _weight(layer)) is not None:
        nn.init.constant_(weight, value)
    _fill_bias(layer, bias)


def normal_init(layer: nn.Module, std: float = 0.01, mean: float = 0.0, bias: float = 0.0) -> None:
    """Weights from a normal distribution with this mean and standard deviation."""
    if (weight := _weight(layer)) is not None:
        nn.init.normal_(weight, mean, std)
    _fill_bias(layer, bias)


def xavier_init(
    layer: nn.Module, gain: float = 1.0, bias: float = 0.0, distribution: Distribution = "normal"
) -> None:
    """Variance gain^2 * 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    if (weight := _weight(layer)) is not None:
        fill = nn.init.xavier_uniform_ if distribution == "uniform" else nn.init.xavier_normal_
        fill(weight, gain=gain)
    _fill_bias(layer, bias)


def kaiming_init(
    layer: nn.Module,
    *,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_out",
    nonlinearity: Literal["relu", "leaky_relu"] = "relu",
    bias: float = 0.0,
    distribution: Distribution = "normal",
) -> None:
    """Variance 2 / (1 + a^2) / fan; `a` counts with "leaky_relu" only (https://arxiv.org/abs/1502.01852)."""
    if (weight := _weight(layer)) is not None:
        fill = nn.init.kaiming_uniform_ if distribution == "uniform" else nn.init.kaiming_normal_
        fill(weight, a=a, mode=mode, nonlinearity=nonlinearity)
    _fill_bias(layer, bias)


def caffe2_xavier_init(layer: nn.Module, bias: float = 0.0) -> None:
    """What Caffe2 calls Xavier: uniform with variance 1 / fan_in."""
    kaiming_init(layer, a=1, mode="fan_in", nonlinearity="leaky_relu", bias=bias, distribution="uniform")


def trunc_normal_init(
    layer: nn.Module, std: float = 0.02, mean: float = 0.0, bias: float = 0.0, bound: float = 2.0
) -> None:
    """Weights from a normal distribution cut at -`bound` and `bound`."""
    if (weight := _weight(layer)) is not None:
        nn.init.trunc_normal_(weight, mean, std, -bound, bound)
    _fill_bias(layer, bias)


def bias_init_with_prob(prior_prob: float) -> float:
    """The bias whose sigmoid is `prior_prob`, so that training starts with few positives."""
    return -math.log((1 - prior_prob) / prior_prob)
