"""The contract of necks: a tuple of feature maps to another."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from annotated_types import Ge, Le
from attrs import frozen
from torch import nn

from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import NonEmpty, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor

MAX_LEVELS: Final = 32
"""A pyramid of more would have cells larger than any image."""
NumLevels: TypeAlias = Annotated[int, Ge(1), Le(MAX_LEVELS)]
"""How many feature maps a pyramid has."""


@frozen(kw_only=True)
class NeckConfig(ModuleConfig):
    """A config that builds a `Neck`."""

    in_channels: NonEmpty[PositiveInt] = derived()
    """Channels of the backbone's feature maps."""
    in_strides: NonEmpty[PositiveInt] = derived()
    """Strides of the backbone's feature maps."""

    @property
    @abstractmethod
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of each feature map that comes out."""

    @property
    @abstractmethod
    def feature_strides(self) -> tuple[int, ...]:
        """Strides of each feature map that comes out."""

    @property
    def reads_image(self) -> bool:
        """Whether it needs the images before the backbone's feature maps."""
        return False

    @property
    def reads_pyramid(self) -> bool:
        """Whether several maps that it reads are of several strides; a neck that merges maps of one size says False."""
        return True

    @abstractmethod
    def build(self) -> Neck: ...


class Neck(nn.Module):
    """Maps a tuple of feature maps to another one."""

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        raise NotImplementedError
