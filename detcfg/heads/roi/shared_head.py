"""The contract of shared heads: layers on pooled features, before bbox head and mask head."""

from __future__ import annotations

from abc import abstractmethod

from attrs import frozen
from torch import nn

from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import PositiveInt


@frozen(kw_only=True)
class SharedHeadConfig(ModuleConfig):
    """A config that builds layers which bbox head and mask head share (the C4 detectors')."""

    in_channels: PositiveInt = derived()
    """Channels of the pooled features."""
    roi_feat_size: PositiveInt = derived()
    """Side of the pooled features."""

    @property
    @abstractmethod
    def feature_channels(self) -> int:
        """Channels of the output."""

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """Side of the output."""

    @abstractmethod
    def build(self) -> nn.Module: ...
