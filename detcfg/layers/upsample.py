"""Layers that enlarge feature maps; MMDetection's `upsample_cfg`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import Config
from detcfg.config.ranges import PositiveInt
from detcfg.layers.init import kaiming_init


@frozen(kw_only=True)
class UpsampleConfig(Config, ABC):
    """A config that builds a layer (N, C, H, W) to (N, C', H * scale_factor, W * scale_factor)."""

    scale_factor: PositiveInt = 2
    """Height and width are multiplied by it."""

    def channels(self, in_channels: int, out_channels: int) -> int:
        """Channels of the output: `out_channels` for a layer with weights, else `in_channels`."""
        del out_channels
        return in_channels

    @abstractmethod
    def build_for(self, in_channels: int, out_channels: int) -> nn.Module:
        """The layer; it gives `self.channels(in_channels, out_channels)` channels."""


@frozen(kw_only=True)
class DeconvUpsampleConfig(UpsampleConfig):
    """A transposed convolution whose taps do not overlap, and a ReLU."""

    def channels(self, in_channels: int, out_channels: int) -> int:
        del in_channels
        return out_channels

    def build_for(self, in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
        layer = DeconvUpsample(in_channels, out_channels, self.scale_factor, stride=self.scale_factor)
        kaiming_init(layer)
        return layer


class DeconvUpsample(nn.ConvTranspose2d):
    """Its state dict is the transposed convolution's."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        return F.relu(super().forward(input, output_size), inplace=True)


@frozen(kw_only=True)
class NearestUpsampleConfig(UpsampleConfig):
    """Repeat each cell."""

    def build_for(self, in_channels: int, out_channels: int) -> nn.Upsample:
        del in_channels, out_channels
        return nn.Upsample(scale_factor=self.scale_factor, mode="nearest")


@frozen(kw_only=True)
class BilinearUpsampleConfig(UpsampleConfig):
    """Interpolate between the centres of cells."""

    def build_for(self, in_channels: int, out_channels: int) -> nn.Upsample:
        del in_channels, out_channels
        return nn.Upsample(scale_factor=self.scale_factor, mode="bilinear", align_corners=False)
