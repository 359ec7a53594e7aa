"""A 1x1 convolution and a norm, named as the real-time transformers have them."""

from __future__ import annotations

from torch import nn


def projection(in_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in_channels, H, W) to (B, out_channels, H, W), by `conv` and `norm`."""
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(in_channels, out_channels, 1, bias=False))
    layers.add_module("norm", nn.BatchNorm2d(out_channels))
    return layers
