"""The neck of CenterNet (mmdet/models/necks/ct_resnet_neck.py).

Shapes: of (B, in_channels[i], H_i, W_i) the last becomes one map, twice as large with each stage.
"""

from __future__ import annotations

from math import ceil
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.config.ranges import NonEmpty, PositiveInt
from detcfg.layers.conv import DeconvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.deform_conv import DCNv2Config
from detcfg.layers.norm import BNConfig
from detcfg.necks.base import Neck, NeckConfig


@frozen(kw_only=True)
class CTResNetNeckConfig(NeckConfig):
    """Transposed convolutions that enlarge the last map (Zhou et al., 2019, https://arxiv.org/abs/1904.07850)."""

    num_deconv_filters: NonEmpty[PositiveInt] = (256, 128, 64)
    """Channels of each stage."""
    num_deconv_kernels: NonEmpty[PositiveInt] = (4, 4, 4)
    """Side of the kernel of each stage's transposed convolution; 4 makes the map twice as large."""
    use_dcn: bool = True
    """Whether the convolution before is a modulated deformable one."""

    def wired(self) -> Self:
        wired = super().wired()
        if len(self.num_deconv_filters) != len(self.num_deconv_kernels):
            raise ConfigError(
                f"num_deconv_filters is {self.num_deconv_filters} and num_deconv_kernels is "
                f"{self.num_deconv_kernels}; they differ in length."
            )
        return wired

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.num_deconv_filters or self.in_channels)[-1:]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return (self.in_strides[-1] // 2 ** len(self.num_deconv_filters),)

    def build(self) -> CTResNetNeck:
        return CTResNetNeck(self.resolved())


class CTResNetNeck(Neck):
    """`deconv_layers` has two modules for each stage."""

    def __init__(self, config: CTResNetNeckConfig) -> None:
        super().__init__()
        self.deconv_layers = nn.Sequential()
        before, norm = config.in_channels[-1], BNConfig()
        for width, kernel in zip(config.num_deconv_filters, config.num_deconv_kernels, strict=True):
            conv_cfg = DCNv2Config() if config.use_dcn else None
            conv = ConvModule(before, width, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm)
            enlarge = ConvModule(
                width, width, kernel, stride=2, padding=1, conv_cfg=DeconvConfig(), norm_cfg=norm
            )
            self.deconv_layers.extend((conv, enlarge))
            before = width
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                init_bilinear(module)
            elif isinstance(module, nn.Conv2d) and not config.use_dcn:
                module.reset_parameters()

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.deconv_layers(features[-1]),)


@torch.no_grad()
def init_bilinear(conv: nn.ConvTranspose2d) -> None:
    """Initialise the weights to the first output as bilinear upsampling; the others stay."""
    size = conv.kernel_size[0]
    half = ceil(size / 2)
    middle = (2 * half - 1 - half % 2) / (2 * half)
    slope = 1 - (torch.arange(size) / half - middle).abs()
    conv.weight[:, 0] = slope[:, None] * slope
