"""Dynamic head (mmdet/models/necks/dyhead.py).

Shapes: feature maps (B, C, H_i, W_i), finest first, to (B, out_channels, H_i, W_i).
"""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.layers.conv import ConvSpec
from detcfg.layers.deform_conv import ModulatedDeformConv2d
from detcfg.layers.dy_relu import DyReLU
from detcfg.layers.init import constant_init, normal_init
from detcfg.layers.norm import GNConfig
from detcfg.necks.base import Neck, NeckConfig

TAPS = 9
"""Of a 3 x 3 kernel."""


@frozen(kw_only=True)
class DyHeadConfig(NeckConfig):
    """Attention over scales, locations and channels (Dai et al., 2021, https://arxiv.org/abs/2106.08322).

    It goes behind a pyramid, all of whose levels have one width.
    """

    out_channels: PositiveInt = 256
    """Channels of each feature map that comes out."""
    num_blocks: NumLayers = 6
    """Blocks in a row."""
    zero_init_offset: bool = True
    """Whether offsets start at 0, so that deformable convolutions start as ordinary ones; else as the authors' do."""

    def wired(self) -> Self:
        wired = super().wired()
        if not is_unset(wired.in_channels) and len(set(wired.in_channels)) != 1:
            raise ConfigError(
                f"in_channels is {wired.in_channels}, but the levels share their layers, so they need one "
                "width. Put a pyramid before it."
            )
        return wired

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * len(self.in_channels) if self.num_blocks else self.in_channels

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.in_strides

    def build(self) -> DyHead:
        return DyHead(self.resolved())


class DyHead(Neck):
    """The blocks, one after another."""

    def __init__(self, config: DyHeadConfig) -> None:
        super().__init__()
        out = config.out_channels
        self.dyhead_blocks = nn.Sequential(
            *(
                DyHeadBlock(config.in_channels[0] if i == 0 else out, out, config.zero_init_offset)
                for i in range(config.num_blocks)
            )
        )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = self.dyhead_blocks(features)
        return out


class DyHeadBlock(nn.Module):
    """Each level attends to itself and its neighbours, by deformable convolution."""

    def __init__(self, in_channels: int, out_channels: int, zero_init_offset: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.spatial_conv_high = DyDCNv2(in_channels, out_channels)
        self.spatial_conv_mid = DyDCNv2(in_channels, out_channels)
        self.spatial_conv_low = DyDCNv2(in_channels, out_channels, stride=2)
        self.spatial_conv_offset = nn.Conv2d(in_channels, 3 * TAPS, 3, padding=1)
        self.scale_attn_module = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(out_channels, 1, 1), nn.ReLU(inplace=True), nn.Hardsigmoid()
        )
        self.task_attn_module = DyReLU(out_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)
        if zero_init_offset:
            constant_init(self.spatial_conv_offset, 0)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self._level(features, level) for level in range(len(features)))

    def _level(self, features: tuple[Tensor, ...], level: int) -> Tensor:
        x = features[level]
        predicted: Tensor = self.spatial_conv_offset(x)
        offset, mask = predicted[:, : 2 * TAPS], predicted[:, 2 * TAPS :].sigmoid()
        seen = [self.spatial_conv_mid(x, offset, mask)]
        if level > 0:
            seen.append(self.spatial_conv_low(features[level - 1], offset, mask))
        if level < len(features) - 1:
            coarser = features[level + 1]
            height, width = coarser.shape[-2:]
            high = self.spatial_conv_high(
                coarser, read_as(offset, height, width), read_as(mask, height, width)
            )
            seen.append(F.interpolate(high, size=x.shape[-2:], mode="bilinear", align_corners=True))
        summed = sum(maps * self.scale_attn_module(maps) for maps in seen)
        out: Tensor = self.task_attn_module(summed / len(seen))
        return out


class DyDCNv2(nn.Module):
    """A modulated deformable convolution with group norm, whose offsets come in."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = ModulatedDeformConv2d(
            ConvSpec(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        )
        self.norm = GNConfig(num_groups=16).build_for(out_channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x, offset, mask))
        return out


def read_as(maps: Tensor, height: int, width: int) -> Tensor:
    """The memory of maps (B, C, H, W), read as if they were (B, C, height, width).

    The authors convolve a coarse level with the offsets of the finer one before they enlarge it, for
    speed, and the operator reads those as if they had the coarse level's size. That is hardly meant
    (https://github.com/microsoft/DynamicHead/issues/25), but it is what published weights were trained with.
    """
    batch, channels = maps.shape[:2]
    return maps.flatten(1)[:, : channels * height * width].reshape(batch, channels, height, width)
