"""Activations that depend on the whole feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detcfg.layers.activation import HSigmoidConfig
from detcfg.layers.conv_module import ConvModule


class DyReLU(nn.Module):
    """Dynamic ReLU (Chen et al., 2020, https://arxiv.org/abs/2003.10027): max(a1 x + b1, a2 x + b2).

    The four coefficients of each channel come from its mean over the map and those of the others; they
    start near those of a ReLU. Follows `DyReLU` in mmdet/models/layers/se_layer.py.

    Args:
        channels: Channels that come in and go out.
        ratio: The hidden layer has `channels / ratio`.
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, channels // ratio, 1)
        self.conv2 = ConvModule(channels // ratio, 4 * channels, 1, act_cfg=HSigmoidConfig())

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        coefficients = self.conv2(self.conv1(self.global_avgpool(x))) - 0.5
        a1, b1, a2, b2 = coefficients.chunk(4, dim=1)
        return torch.maximum(x * (2 * a1 + 1) + b1, x * (2 * a2) + b2)
