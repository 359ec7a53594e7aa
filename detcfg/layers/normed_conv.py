"""A convolution of L2-normalised input and weights."""

from __future__ import annotations

from typing import Any

import torch
from attrs import asdict, frozen
from torch import Tensor, nn

from detcfg.config.ranges import NonNegativeFloat, PositiveFloat
from detcfg.layers.conv import ConvConfig, ConvSpec


@frozen(kw_only=True)
class NormedConv2dConfig(ConvConfig):
    """A convolution of L2-normalised input and weights (mmdet/models/layers/normed_predictor.py)."""

    temperature: PositiveFloat = 20.0
    """Multiplies the normalised input; MMDetection spells it "tempearture"."""
    power: NonNegativeFloat = 1.0
    """Exponent of the norms that input and weights are divided by."""
    eps: PositiveFloat = 1e-6
    """Added to these divisors."""
    norm_over_kernel: bool = False
    """Whether a filter is divided by the norm of all its weights; else each tap of its kernel by its norm."""

    def build_for(self, spec: ConvSpec) -> nn.Conv2d:
        return NormedConv2d(spec, self)


class NormedConv2d(nn.Conv2d):
    """With a 1 x 1 kernel the cosine similarity of input and weights at each location, times the temperature."""

    def __init__(self, spec: ConvSpec, config: NormedConv2dConfig) -> None:
        super().__init__(**asdict(spec))  # pyright: ignore[reportUnknownMemberType]  # torch leaves `device` untyped
        self.temperature = config.temperature
        self.power = config.power
        self.eps = config.eps
        self.norm_over = (1, 2, 3) if config.norm_over_kernel else (1,)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Conv2d's
        normed = self._normed(input, (1,)) * self.temperature
        out: Tensor = self._conv_forward(normed, self._normed(self.weight, self.norm_over), self.bias)
        return out

    def _normed(self, values: Tensor, over: tuple[int, ...]) -> Tensor:
        untyped: Any = torch.linalg
        norm: Tensor = untyped.vector_norm(values, dim=over, keepdim=True)
        return values / (norm.pow(self.power) + self.eps)
