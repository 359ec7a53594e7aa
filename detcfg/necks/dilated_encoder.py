"""The neck of YOLOF (mmdet/models/necks/dilated_encoder.py).

Shapes: of (B, in_channels[i], H_i, W_i) the last becomes one map (B, out_channels, H, W).
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.config.ranges import NonEmpty, NumLayers, PositiveInt
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init, normal_init
from detcfg.layers.norm import BNConfig, NormConfig
from detcfg.necks.base import Neck, NeckConfig


@frozen(kw_only=True)
class DilatedEncoderConfig(NeckConfig):
    """Residual blocks of increasing dilation (Chen et al., 2021, https://arxiv.org/abs/2103.09460)."""

    out_channels: PositiveInt = 512
    """Channels of each feature map that comes out."""
    block_mid_channels: PositiveInt = 128
    """Channels inside the blocks."""
    num_residual_blocks: NumLayers = 4
    """Residual blocks, each with its dilation."""
    block_dilations: NonEmpty[PositiveInt] = (2, 4, 6, 8)
    """Dilation of each block's middle convolution."""
    norm_cfg: NormConfig = BNConfig()
    """The norm of the blocks."""

    def wired(self) -> Self:
        wired = super().wired()
        if len(self.block_dilations) < self.num_residual_blocks:
            raise ConfigError(
                f"num_residual_blocks is {self.num_residual_blocks}, but block_dilations is "
                f"{self.block_dilations}; each block needs its dilation."
            )
        return wired

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.in_strides[-1:]

    def build(self) -> DilatedEncoder:
        return DilatedEncoder(self.resolved())


class DilatedEncoder(Neck):
    """A projection without activations, and the blocks."""

    def __init__(self, config: DilatedEncoderConfig) -> None:
        super().__init__()
        width = config.out_channels
        self.lateral_conv = nn.Conv2d(config.in_channels[-1], width, 1)
        self.lateral_norm = nn.BatchNorm2d(width)
        self.fpn_conv = nn.Conv2d(width, width, 3, padding=1)
        self.fpn_norm = nn.BatchNorm2d(width)
        dilations = config.block_dilations[: config.num_residual_blocks]
        self.dilated_encoder_blocks = nn.Sequential(
            *(
                Bottleneck(width, config.block_mid_channels, dilation, config.norm_cfg)
                for dilation in dilations
            )
        )
        for conv in (self.lateral_conv, self.fpn_conv):
            kaiming_init(conv, a=1, mode="fan_in", nonlinearity="leaky_relu", distribution="uniform")
        for layer in self.dilated_encoder_blocks.modules():
            if isinstance(layer, nn.Conv2d):
                normal_init(layer, std=0.01)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        projected = self.lateral_norm(self.lateral_conv(features[-1]))
        smoothed = self.fpn_norm(self.fpn_conv(projected))
        return (self.dilated_encoder_blocks(smoothed),)


class Bottleneck(nn.Module):
    """1 x 1, dilated 3 x 3 and 1 x 1 convolutions, with a shortcut."""

    def __init__(self, channels: int, mid_channels: int, dilation: int, norm_cfg: NormConfig) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, mid_channels, 1, norm_cfg=norm_cfg)
        self.conv2 = ConvModule(
            mid_channels, mid_channels, 3, padding=dilation, dilation=dilation, norm_cfg=norm_cfg
        )
        self.conv3 = ConvModule(mid_channels, channels, 1, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(self.conv2(self.conv1(x))) + x
        return out
