"""A moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from math import exp
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import Config
from detcfg.config.ranges import PositiveInt


@frozen(kw_only=True)
class EMAConfig(Config):
    """An exponential moving average (mmdet/models/layers/ema.py, ExpMomentumEMA)."""

    momentum: Annotated[float, Gt(0), Lt(1)] = 0.0002
    """The factor of the latest weights in the average, once the first steps are over."""
    gamma: PositiveInt = 2000
    """That factor is larger at first, and decays to `momentum` with this time constant, in steps."""

    def share(self, step: int) -> float:
        """The factor of the latest weights at a step, counted from 0."""
        return (1 - self.momentum) * exp(-(1 + step) / self.gamma) + self.momentum

    def average(self, model: nn.Module) -> WeightAverage:
        """An average that begins with the weights of a model."""
        return WeightAverage(self, model)


class WeightAverage:
    """The moving average of all parameters and floating-point buffers; other buffers are copied."""

    def __init__(self, config: EMAConfig, model: nn.Module) -> None:
        self.config = config
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights after a step, counted from 0."""
        share = self.config.share(step)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, share)
            else:
                self.tensors[name].copy_(tensor)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with an average that was saved."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Generator[None]:
        """Within it, the model has the average in place of its weights."""
        latest = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(latest)
