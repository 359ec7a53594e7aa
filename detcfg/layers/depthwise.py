"""Depthwise separable convolutions (mmcv/cnn/bricks/depthwise_separable_conv_module.py)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from detcfg.layers.activation import ActivationConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import RELU, ConvModule
from detcfg.layers.norm import NormConfig


class DepthwiseSeparableConvModule(nn.Module):
    """A depthwise convolution, then a pointwise (1 x 1) one (Howard et al., 2017).

    https://arxiv.org/abs/1704.04861. Both have norm and activation; arguments are `ConvModule`'s.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool | Literal["auto"] = "auto",
        conv_cfg: ConvConfig | None = None,
        norm_cfg: NormConfig | None = None,
        act_cfg: ActivationConfig | None = RELU,
    ) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(
            in_channels,
            in_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            groups=in_channels,
            bias=bias,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )
        self.pointwise_conv = ConvModule(
            in_channels,
            out_channels,
            1,
            bias=bias,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out
