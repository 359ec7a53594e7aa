"""Activations; MMDetection's `act_cfg`."""

from __future__ import annotations

from attrs import frozen
from torch import nn

from detcfg.config import ModuleConfig
from detcfg.config.ranges import NonNegativeFloat


@frozen(kw_only=True)
class ActivationConfig(ModuleConfig):
    """A config that builds an activation."""


@frozen(kw_only=True)
class ReLUConfig(ActivationConfig):
    """max(x, 0)."""

    inplace: bool = True
    """Whether the input is overwritten, which saves memory. Not for an activation before its convolution."""

    def build(self) -> nn.ReLU:
        return nn.ReLU(inplace=self.inplace)


@frozen(kw_only=True)
class ReLU6Config(ActivationConfig):
    """min(max(x, 0), 6)."""

    inplace: bool = True
    """Whether the input is overwritten, which saves memory."""

    def build(self) -> nn.ReLU6:
        return nn.ReLU6(inplace=self.inplace)


@frozen(kw_only=True)
class LeakyReLUConfig(ActivationConfig):
    """max(x, negative_slope * x)."""

    negative_slope: NonNegativeFloat = 0.01
    """Slope below zero."""
    inplace: bool = True
    """Whether the input is overwritten, which saves memory."""

    def build(self) -> nn.LeakyReLU:
        return nn.LeakyReLU(self.negative_slope, inplace=self.inplace)


@frozen(kw_only=True)
class PReLUConfig(ActivationConfig):
    """max(x, 0) + a * min(x, 0) with a trained slope a, 0.25 at first."""

    def build(self) -> nn.PReLU:
        return nn.PReLU()


@frozen(kw_only=True)
class SiLUConfig(ActivationConfig):
    """x * sigmoid(x); MMDetection's Swish is the same."""

    inplace: bool = True
    """Whether the input is overwritten, which saves memory."""

    def build(self) -> nn.SiLU:
        return nn.SiLU(inplace=self.inplace)


@frozen(kw_only=True)
class GELUConfig(ActivationConfig):
    """x * Phi(x) (Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415)."""

    def build(self) -> nn.GELU:
        return nn.GELU()


@frozen(kw_only=True)
class HSigmoidConfig(ActivationConfig):
    """min(max(x / 6 + 1 / 2, 0), 1) (Howard et al., 2019, https://arxiv.org/abs/1905.02244)."""

    def build(self) -> nn.Hardsigmoid:
        return nn.Hardsigmoid()


@frozen(kw_only=True)
class SigmoidConfig(ActivationConfig):
    """1 / (1 + exp(-x))."""

    def build(self) -> nn.Sigmoid:
        return nn.Sigmoid()
