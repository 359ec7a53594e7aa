"""Modules to insert into the blocks of a backbone; MMDetection's `plugins`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import frozen

from detcfg.config import Config

if TYPE_CHECKING:
    from torch import nn

PluginPosition = Literal["after_conv1", "after_conv2", "after_conv3"]


@frozen(kw_only=True)
class PluginLayerConfig(Config, ABC):
    """A config that builds a module of as many channels out as in."""

    abbr: ClassVar[str]
    """Its name in MMDetection's state dicts."""

    @abstractmethod
    def build_for(self, channels: int) -> nn.Module:
        """The module for feature maps of so many channels."""


@frozen(kw_only=True)
class PluginConfig(Config):
    """A module, and where it goes."""

    cfg: PluginLayerConfig
    """The layer."""
    position: PluginPosition
    """After which convolution of a block it stands."""
    stages: tuple[bool, ...] | None = None
    """Which stages have it, one value a stage; None: all."""
    postfix: str = ""
    """Suffix of its name in the state dict, where a block has two layers of a kind."""

    def in_stage(self, stage: int) -> bool:
        """Whether the stage of this index has the module."""
        return self.stages is None or self.stages[stage]

    @property
    def name(self) -> str:
        """Its name in the block."""
        return f"{self.cfg.abbr}{self.postfix}"
