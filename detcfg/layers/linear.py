"""Linear layers that end a head; MMDetection's `cls_predictor_cfg` and `reg_predictor_cfg`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import Config
from detcfg.config.ranges import NonNegativeFloat, PositiveFloat
from detcfg.ops import vector_norm


@frozen(kw_only=True)
class PredictorConfig(Config, ABC):
    """A config that builds a linear layer once its sizes are known."""

    @abstractmethod
    def build_for(self, in_features: int, out_features: int) -> nn.Linear:
        """The layer, (..., in_features) to (..., out_features)."""


@frozen(kw_only=True)
class LinearConfig(PredictorConfig):
    """An ordinary linear layer."""

    def build_for(self, in_features: int, out_features: int) -> nn.Linear:
        return nn.Linear(in_features, out_features)


@frozen(kw_only=True)
class NormedLinearConfig(PredictorConfig):
    """A linear layer of L2-normalised input and weights (mmdet/models/layers/normed_predictor.py)."""

    temperature: PositiveFloat = 20.0
    """Multiplies the normalised input."""
    power: NonNegativeFloat = 1.0
    """Exponent of the norms that input and weights are divided by."""
    eps: PositiveFloat = 1e-6
    """Added to these divisors."""

    def build_for(self, in_features: int, out_features: int) -> nn.Linear:
        return NormedLinear(self, in_features, out_features)


class NormedLinear(nn.Linear):
    """The cosine similarity of input and weights, times the temperature, plus the bias."""

    def __init__(self, config: NormedLinearConfig, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)  # pyright: ignore[reportUnknownMemberType]  # torch's is untyped
        self.temperature = config.temperature
        self.power = config.power
        self.eps = config.eps

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Linear's
        return F.linear(self._normed(input) * self.temperature, self._normed(self.weight), self.bias)

    def _normed(self, rows: Tensor) -> Tensor:
        return rows / (vector_norm(rows, dim=1, keepdim=True).pow(self.power) + self.eps)
