"""Kinds of convolution; MMDetection's `conv_cfg`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from attrs import frozen
from torch import nn

from detcfg.config import Config


@frozen(kw_only=True)
class ConvConfig(Config, ABC):
    """A config that builds a convolution once its channels and geometry are known."""

    @abstractmethod
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
    ) -> nn.Module:
        """The layer, (B, in_channels, H, W) to (B, out_channels, H', W')."""


@frozen(kw_only=True)
class Conv2dConfig(ConvConfig):
    """The ordinary convolution, which a `conv_cfg` of None means too."""

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
    ) -> nn.Conv2d:
        return nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )


@frozen(kw_only=True)
class DeconvConfig(ConvConfig):
    """A transposed convolution, which enlarges by its stride; MMDetection's `deconv`."""

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
    ) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )


@frozen(kw_only=True)
class Conv1dConfig(ConvConfig):
    """A convolution of sequences: (B, in_channels, Q) to (B, out_channels, Q')."""

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
    ) -> nn.Conv1d:
        return nn.Conv1d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )


def build_conv(
    conv_cfg: ConvConfig | None,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """The convolution that `conv_cfg` describes; an ordinary one for None."""
    return (conv_cfg or Conv2dConfig()).build_for(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
