"""The last, linear layer of a head."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import Config
from detcfg.ops import vector_norm


@frozen(kw_only=True)
class PredictorConfig(Config, ABC):
    """A config that builds a linear layer once its sizes are known."""

    @abstractmethod
    def build_for(self, in_features: int, out_features: int) -> nn.Linear: ...


@frozen(kw_only=True)
class LinearConfig(PredictorConfig):
    """An ordinary linear layer."""

    def build_for(self, in_features: int, out_features: int) -> nn.Linear:
        return nn.Linear(in_features, out_features)


@frozen(kw_only=True)
class NormedLinearConfig(PredictorConfig):
    """A linear layer of normed input and weights (mmdet/models/layers/normed_predictor.py)."""

    temperature: float = 20.0
    """The normed input is multiplied by it."""
    power: float = 1.0
    """The norms are raised to it."""
    eps: float = 1e-6
    """Added to the norms."""

    def build_for(self, in_features: int, out_features: int) -> nn.Linear:
        return NormedLinear(self, in_features, out_features)


class NormedLinear(nn.Linear):
    """The cosine of input and weights, times the temperature."""

    def __init__(self, config: NormedLinearConfig, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)  # pyright: ignore[reportUnknownMemberType]  # torch's own
        self.temperature = config.temperature
        self.power = config.power
        self.eps = config.eps

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Linear's
        return F.linear(self._normed(input) * self.temperature, self._normed(self.weight), self.bias)

    def _normed(self, rows: Tensor) -> Tensor:
        return rows / (vector_norm(rows, dim=1, keepdim=True).pow(self.power) + self.eps)
