"""Normalisation layers; the `abbr` of each is its name in MMDetection's state dicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from attrs import frozen
from torch import nn

from detcfg.config import Config, ConfigError
from detcfg.config.ranges import Fraction, PositiveFloat, PositiveInt
from detcfg.layers.sync_norm import SyncBatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator


@frozen(kw_only=True)
class NormConfig(Config, ABC):
    """A config that builds a normalisation layer once its channels are known."""

    abbr: ClassVar[str]
    """Names the norm in state dicts: with `bn`, the norm after `conv1` is `bn1` and that of a `ConvModule` `bn`."""

    requires_grad: bool = True
    """Whether the scale and the shift are trained."""
    eps: PositiveFloat = 1e-5
    """Added to the variance."""

    @abstractmethod
    def layer(self, channels: int) -> nn.Module:
        """The layer, whatever `requires_grad` says."""

    def build_for(self, channels: int) -> nn.Module:
        """The layer for feature maps of so many channels."""
        layer = self.layer(channels)
        for parameter in layer.parameters():
            parameter.requires_grad = self.requires_grad
        return layer


@frozen(kw_only=True)
class BNConfig(NormConfig):
    """Batch normalisation (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167)."""

    abbr: ClassVar[str] = "bn"
    """Its name in state dicts."""

    momentum: Fraction = 0.1
    """Weight of the batch in the running mean and variance, 0 to 1."""

    def layer(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


@frozen(kw_only=True)
class SyncBNConfig(BNConfig):
    """Batch normalisation over the batches of all processes; alone, the same as `BNConfig`."""

    def layer(self, channels: int) -> nn.Module:
        return SyncBatchNorm(channels, eps=self.eps, momentum=self.momentum)


@frozen(kw_only=True)
class GNConfig(NormConfig):
    """Group normalisation (Wu and He, 2018, https://arxiv.org/abs/1803.08494)."""

    abbr: ClassVar[str] = "gn"
    """Its name in state dicts."""

    num_groups: PositiveInt = 32
    """Groups of channels that are normalised together; it divides the channels."""

    def layer(self, channels: int) -> nn.Module:
        if channels % self.num_groups:
            raise ConfigError(
                f"GNConfig.num_groups is {self.num_groups}, which does not divide {channels} channels."
            )
        return nn.GroupNorm(self.num_groups, channels, eps=self.eps)


@frozen(kw_only=True)
class LNConfig(NormConfig):
    """Layer normalisation over the last dimension (Ba et al., 2016, https://arxiv.org/abs/1607.06450)."""

    abbr: ClassVar[str] = "ln"
    """Its name in state dicts."""

    def layer(self, channels: int) -> nn.Module:
        return nn.LayerNorm(channels, eps=self.eps)


BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    """The batch norms in `module`."""
    return (m for m in module.modules() if isinstance(m, BATCH_NORMS))


def eval_batch_norms(module: nn.Module) -> None:
    """Let the batch norms in `module` use their running statistics and leave them as they are."""
    for norm in batch_norms(module):
        norm.eval()


def freeze(module: nn.Module) -> None:
    """Put `module` into evaluation mode and train none of its parameters."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad = False
