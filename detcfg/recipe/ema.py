"""A moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from math import exp

import torch
from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.config import Config


@frozen(kw_only=True)
class EMAConfig(Config):
    """An exponential moving average (mmdet/models/layers/ema.py, ExpMomentumEMA)."""

    momentum: float = field(default=0.0002, validator=[validators.gt(0), validators.lt(1)])
    """The share of the new weights in the average, later on."""
    gamma: int = field(default=2000, validator=validators.ge(1))
    """The share is larger at first; it falls with this many steps as the time constant."""

    def share(self, step: int) -> float:
        """The share of the new weights at a step counted from 0."""
        return (1 - self.momentum) * exp(-(1 + step) / self.gamma) + self.momentum

    def average(self, model: nn.Module) -> WeightAverage:
        return WeightAverage(self, model)


class WeightAverage:
    """The average of all parameters and floating-point buffers; other buffers are the latest."""

    def __init__(self, config: EMAConfig, model: nn.Module) -> None:
        self.config = config
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step."""
        share = self.config.share(step)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, share)
            else:
                self.tensors[name].copy_(tensor)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up an average that was saved."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Generator[None]:
        """Put the average in the place of the model's weights for a while."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
