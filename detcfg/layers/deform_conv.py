"""Deformable convolutions, whose sampling offsets are predicted.

Parameter names are those of mmcv's packs (mmcv/ops/deform_conv.py, modulated_deform_conv.py):
`weight`, `conv_offset.weight`, `conv_offset.bias`. The operator is torchvision's, whose layout of
offsets, (y, x) for each tap of the kernel, is the same.
"""

from __future__ import annotations

import math

import torch
from attrs import asdict, evolve, frozen
from torch import Tensor, nn

from detcfg import ops
from detcfg.config import ConfigError
from detcfg.config.ranges import PositiveInt
from detcfg.layers.conv import ConvConfig, ConvSpec
from detcfg.layers.init import constant_init


@frozen(kw_only=True)
class DeformConvConfig(ConvConfig):
    """What both versions share."""

    deform_groups: PositiveInt = 1
    """Groups of input channels; each group is sampled at its own offsets."""


@frozen(kw_only=True)
class DCNConfig(DeformConvConfig):
    """Deformable convolution (Dai et al., 2017, https://arxiv.org/abs/1703.06211)."""

    def build_for(self, spec: ConvSpec) -> DeformConv2dPack:
        if spec.bias:
            raise ConfigError("DCN has no bias. Put a norm behind it, or use DCNv2Config.")
        conv = DeformConv2dPack(spec, deform_groups=self.deform_groups)
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        return conv


@frozen(kw_only=True)
class DCNv2Config(DeformConvConfig):
    """Modulated deformable convolution (Zhu et al., 2018, https://arxiv.org/abs/1811.11168)."""

    def build_for(self, spec: ConvSpec) -> ModulatedDeformConv2dPack:
        return ModulatedDeformConv2dPack(spec, deform_groups=self.deform_groups)


class _DeformConv2d(nn.Module):
    """The weights and the geometry of a deformable convolution, wherever its offsets are from."""

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = (
            (n, n) for n in (spec.stride, spec.padding, spec.dilation)
        )
        taps = (spec.kernel_size, spec.kernel_size)
        self.weight = nn.Parameter(torch.empty(spec.out_channels, spec.in_channels // spec.groups, *taps))
        self.bias = nn.Parameter(torch.zeros(spec.out_channels)) if spec.bias else None
        bound = 1 / math.sqrt(spec.in_channels * spec.kernel_size**2)
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

    def __init__(self, spec: ConvSpec, *, deform_groups: int = 1) -> None:
        super().__init__(spec)
        predicted = deform_groups * self.channels_per_tap * spec.kernel_size**2
        self.conv_offset = nn.Conv2d(**asdict(evolve(spec, out_channels=predicted, groups=1, bias=True)))
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
