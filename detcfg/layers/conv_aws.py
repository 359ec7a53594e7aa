"""Convolution whose filters are standardised, scaled and shifted (mmcv/cnn/bricks/conv_ws.py)."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from attrs import asdict, frozen
from torch import Tensor, nn

from detcfg.layers.conv import ConvConfig, ConvSpec

EPS = 1e-5
"""Added to the variance of a filter."""


@frozen(kw_only=True)
class ConvAWSConfig(ConvConfig):
    """Adaptive weight standardisation (Qiao et al., 2020, https://arxiv.org/abs/2006.02334)."""

    def build_for(self, spec: ConvSpec) -> ConvAWS2d:
        return ConvAWS2d(spec)


class ConvAWS2d(nn.Conv2d):
    """Filters are standardised, scaled by `weight_gamma` and shifted by `weight_beta`, which are not trained.

    Loaded from a model that has neither, the two keep its filters as they are.
    """

    weight_gamma: Tensor
    """(O, 1, 1, 1): the standard deviation of each filter."""
    weight_beta: Tensor
    """(O, 1, 1, 1): the mean of each filter."""

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__(**asdict(spec))  # pyright: ignore[reportUnknownMemberType]  # torch leaves `device` untyped
        self.register_buffer("weight_gamma", torch.ones(spec.out_channels, 1, 1, 1))
        self.register_buffer("weight_beta", torch.zeros(spec.out_channels, 1, 1, 1))
        cast("Any", self).register_load_state_dict_pre_hook(_keep_filters)  # torch leaves it untyped

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Conv2d's
        weight = self.standardised(self.weight)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def standardised(self, weight: Tensor) -> Tensor:
        """The filters (O, I, H, W) that are applied."""
        mean, std = _moments(weight)
        return self.weight_gamma * ((weight - mean) / std) + self.weight_beta


def _keep_filters(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before weights are loaded: give those without scale and shift the ones that keep the filters.

    As in mmcv, a scale whose mean is not positive, which no standard deviation has, is none.
    """
    del module
    weight, scale = state_dict.get(f"{prefix}weight"), state_dict.get(f"{prefix}weight_gamma")
    if isinstance(weight, Tensor) and not (isinstance(scale, Tensor) and bool(scale.mean() > 0)):
        mean, std = _moments(weight)
        state_dict |= {f"{prefix}weight_beta": mean, f"{prefix}weight_gamma": std}


def _moments(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (O, 1, 1, 1) of each filter."""
    filters = weight.flatten(1)
    mean, std = filters.mean(dim=1), (filters.var(dim=1) + EPS).sqrt()
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)
