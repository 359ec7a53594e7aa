"""The neck of ViTDet: a pyramid of one map.

Shapes: (B, C, H, W) of stride S becomes a (B, out_channels, H_i, W_i) for each of `scale_factors`, of stride
S / factor, and `num_outs` in all.
"""

from __future__ import annotations

from typing import Final, Self

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import NonEmpty, PositiveFloat, PositiveInt
from detcfg.necks.base import Neck, NeckConfig, NumLevels

FACTORS: Final = (4.0, 2.0, 1.0, 0.5)
"""What a map may be scaled by."""
EPS: Final = 1e-6
"""Of the norms, as in the published weights."""


@frozen(kw_only=True)
class SimpleFeaturePyramidConfig(NeckConfig):
    """The simple feature pyramid of ViTDet (Li et al., 2022, https://arxiv.org/abs/2203.16527).

    For backbones all of whose maps have one size, such as a ViT: give it the last map alone. Each level is made of
    that map by itself, by deconvolutions or a pooling, and a 1x1 and a 3x3 convolution, all with layer norm.
    """

    out_channels: PositiveInt = 256
    """Channels of each feature map that comes out."""
    scale_factors: NonEmpty[PositiveFloat] = FACTORS
    """Cells of a level for each cell of the map, along each axis, falling: of 4, 2, 1 and 0.5."""
    num_outs: NumLevels = 5
    """Levels that come out: those of `scale_factors`, then every second cell of the last, of that ..."""

    def wired(self) -> Self:
        wired = super().wired()
        factors = self.scale_factors
        if not set(factors) <= set(FACTORS) or list(factors) != sorted(set(factors), reverse=True):
            raise ConfigError(f"scale_factors is {factors}; give some of {FACTORS}, in this order.")
        if self.num_outs < len(factors):
            raise ConfigError(
                f"num_outs is {self.num_outs}, but scale_factors makes {len(factors)} levels. Give at least as many outs."
            )
        if is_unset(self.in_strides) or is_unset(self.in_channels):
            return wired
        if len(self.in_channels) != 1:
            raise ConfigError(
                f"in_channels is {self.in_channels} and in_strides {self.in_strides}, but the simple feature pyramid is "
                "made of one map. Give the backbone's out_indices the number of its last map alone."
            )
        (stride,) = self.in_strides
        if uneven := [factor for factor in factors if stride % factor]:
            raise ConfigError(
                f"scale_factors has {uneven[0]:g}, but in_strides is {self.in_strides}, which it does not divide. "
                "Leave it out."
            )
        return wired

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * self.num_outs

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = [int(self.in_strides[0] / factor) for factor in self.scale_factors]
        more = range(1, self.num_outs - len(strides) + 1)
        return (*strides, *(strides[-1] * 2**i for i in more))

    @property
    def reads_pyramid(self) -> bool:
        return False

    def build(self) -> SimpleFeaturePyramid:
        return SimpleFeaturePyramid(self.resolved())


class SimpleFeaturePyramid(Neck):
    """A stack of layers for each scale, side by side."""

    def __init__(self, config: SimpleFeaturePyramidConfig) -> None:
        super().__init__()
        self.num_outs = config.num_outs
        (channels,) = config.in_channels
        self.stages = nn.ModuleList(
            _stage(channels, config.out_channels, factor) for factor in config.scale_factors
        )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = features
        levels: list[Tensor] = [stage(x) for stage in self.stages]
        while len(levels) < self.num_outs:
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)


def _stage(channels: int, out_channels: int, factor: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    if factor == 4:
        halved = channels // 2
        layers += [nn.ConvTranspose2d(channels, halved, 2, stride=2), ChannelNorm(halved), nn.GELU()]
        layers += [nn.ConvTranspose2d(halved, channels // 4, 2, stride=2)]
        channels //= 4
    elif factor == 2:
        layers += [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)]
        channels //= 2
    elif factor == 0.5:
        layers += [nn.MaxPool2d(2, stride=2, ceil_mode=True)]
    layers += [nn.Conv2d(channels, out_channels, 1, bias=False), ChannelNorm(out_channels)]
    layers += [nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), ChannelNorm(out_channels)]
    return nn.Sequential(*layers)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each cell of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
