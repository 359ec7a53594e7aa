"""Switchable atrous convolution (mmcv/ops/saconv.py).

Shapes: (B, I, H, W) to (B, O, H', W').
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg import ops
from detcfg.config import ConfigError
from detcfg.layers.conv import ConvConfig, ConvSpec
from detcfg.layers.conv_aws import ConvAWS2d
from detcfg.layers.init import constant_init

LARGE = 3
"""Factor of the second dilation and its padding."""


@frozen(kw_only=True)
class SACConfig(ConvConfig):
    """Two dilations of one kernel, mixed by a switch that is predicted at each location (Qiao et al., 2020).

    https://arxiv.org/abs/2006.02334.
    """

    use_deform: bool = False
    """Whether both convolutions are deformable."""

    def build_for(self, spec: ConvSpec) -> SAConv2d:
        if spec.bias:
            raise ConfigError("SACConfig: the convolution has no bias. Put a norm behind it.")
        if self.use_deform and spec.kernel_size != 3:
            raise ConfigError(
                f"SACConfig.use_deform goes with kernels of 3, and this one is of {spec.kernel_size}."
            )
        return SAConv2d(spec, use_deform=self.use_deform)


class SAConv2d(ConvAWS2d):
    """`switch * small + (1 - switch) * large`, with the context of the whole map added before and after."""

    def __init__(self, spec: ConvSpec, *, use_deform: bool = False) -> None:
        super().__init__(spec)
        in_channels, stride = spec.in_channels, spec.stride
        self.switch = nn.Conv2d(in_channels, 1, 1, stride=stride)
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1)
        self.post_context = nn.Conv2d(spec.out_channels, spec.out_channels, 1)
        self.offset_s = self.offset_l = None
        if use_deform:
            taps = 2 * spec.kernel_size**2
            self.offset_s = nn.Conv2d(in_channels, taps, 3, stride=stride, padding=1)
            self.offset_l = nn.Conv2d(in_channels, taps, 3, stride=stride, padding=1)
        self.reset_switch()

    def reset_switch(self) -> None:
        """Start as an ordinary convolution."""
        constant_init(self.switch, 0, bias=1)
        nn.init.zeros_(self.weight_diff)
        for layer in (self.pre_context, self.post_context, self.offset_s, self.offset_l):
            if layer is not None:
                constant_init(layer, 0)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Conv2d's
        x = input + self.pre_context(F.adaptive_avg_pool2d(input, 1))
        around = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
        switch = self.switch(around)
        weight = self.standardised(self.weight)
        small = self._convolved(x, around, weight, self.offset_s, 1)
        large = self._convolved(x, around, weight + self.weight_diff, self.offset_l, LARGE)
        out = switch * small + (1 - switch) * large
        mixed: Tensor = out + self.post_context(F.adaptive_avg_pool2d(out, 1))
        return mixed

    def _convolved(
        self, x: Tensor, around: Tensor, weight: Tensor, offset: nn.Module | None, factor: int
    ) -> Tensor:
        """`x` convolved with the dilation multiplied by a factor."""
        stride, padding, dilation = (
            _times(self.stride, 1),
            _times(self.padding, factor),
            _times(self.dilation, factor),
        )
        if offset is None:
            return F.conv2d(x, weight, None, stride, padding, dilation, self.groups)
        return ops.deform_conv2d(
            x, offset(around), weight, None, stride=stride, padding=padding, dilation=dilation
        )


def _times(values: tuple[int, ...] | str, factor: int) -> tuple[int, int]:
    assert not isinstance(values, str)
    return values[0] * factor, values[1] * factor
