"""Deformable convolutions that learn their own offsets.

Parameter names are those of mmcv's packs (mmcv/ops/deform_conv.py, modulated_deform_conv.py):
`weight`, `conv_offset.weight`, `conv_offset.bias`. The operator is torchvision's, whose layout of
offsets, (y, x) for each tap of the kernel, is the same.
"""

from __future__ import annotations

import math

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg import ops
from detcfg.config import ConfigError
from detcfg.layers.conv import ConvConfig
from detcfg.layers.init import constant_init


@frozen(kw_only=True)
class DeformConvConfig(ConvConfig):
    """What both versions share."""

    deform_groups: int = 1
    """Groups of input channels with offsets of their own."""


@frozen(kw_only=True)
class DCNConfig(DeformConvConfig):
    """Deformable convolution (Dai et al., 2017, https://arxiv.org/abs/1703.06211)."""

    def build_for(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> DeformConv2dPack:
        if bias:
            raise ConfigError("DCN has no bias. Put a norm behind it, or use DCNv2Config.")
        conv = DeformConv2dPack(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            deform_groups=self.deform_groups,
        )
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        return conv


@frozen(kw_only=True)
class DCNv2Config(DeformConvConfig):
    """Modulated deformable convolution (Zhu et al., 2018, https://arxiv.org/abs/1811.11168)."""

    def build_for(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> ModulatedDeformConv2dPack:
        return ModulatedDeformConv2dPack(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            deform_groups=self.deform_groups,
            bias=bias,
        )


class _DeformConv2d(nn.Module):
    """The weights and the geometry of a deformable convolution, wherever its offsets are from."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = (stride, stride), (padding, padding), (dilation, dilation)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        return ops.deform_conv2d(
            x,
            offset,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask,
        )


class DeformConv2d(_DeformConv2d):
    """Samples the input beside the regular grid, at offsets that come in.

    Shapes: (B, in_channels, H, W) and offsets (B, groups * 2 * taps, H', W') to (B, out_channels, H', W').
    """

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        return self._convolve(x, offset, None)


class ModulatedDeformConv2d(_DeformConv2d):
    """`DeformConv2d` whose taps have weights (B, groups * taps, H', W') that come in, too."""

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return self._convolve(x, offset, mask)


class DeformConv2dPack(_DeformConv2d):
    """Samples the input beside the regular grid, at offsets that a convolution predicts.

    Shapes: (B, in_channels, H, W) to (B, out_channels, H', W').
    """

    channels_per_tap = 2
    """What `conv_offset` predicts for each tap: y and x."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.conv_offset = nn.Conv2d(
            in_channels,
            deform_groups * self.channels_per_tap * kernel_size**2,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        self.reset_offset()

    def reset_offset(self) -> None:
        """Start as an ordinary convolution."""
        constant_init(self.conv_offset, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.conv_offset(x), None)


class ModulatedDeformConv2dPack(DeformConv2dPack):
    """Besides the offset, each tap has a weight between 0 and 1 that depends on the input."""

    channels_per_tap = 3

    def forward(self, x: Tensor) -> Tensor:
        predicted = self.conv_offset(x)
        taps = predicted.shape[1] // 3
        offset, mask = predicted[:, : 2 * taps], predicted[:, 2 * taps :].sigmoid()
        return self._convolve(x, offset, mask)
