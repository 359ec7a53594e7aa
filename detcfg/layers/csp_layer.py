"""Cross-stage partial layers, which the YOLO family is made of (mmdet/models/layers/csp_layer.py).

Shapes: (B, in_channels, H, W) to (B, out_channels, H, W).
"""

from __future__ import annotations

from math import sqrt
from typing import Final

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.layers.activation import ActivationConfig, SiLUConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.depthwise import DepthwiseSeparableConvModule
from detcfg.layers.init import kaiming_init
from detcfg.layers.norm import BNConfig, NormConfig
from detcfg.precision import without_autocast

YOLO_NORM: Final = BNConfig(momentum=0.03, eps=0.001)
"""The norm of the YOLO family."""


@frozen(kw_only=True)
class Make:
    """How all convolutions of a network are made."""

    use_depthwise: bool = False
    """Whether convolutions larger than 1 x 1 are depthwise separable."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = YOLO_NORM
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = SiLUConfig()
    """The activation after each convolution; None: none."""

    def conv(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> ConvModule:
        """An ordinary convolution that keeps the size, or divides it by `stride`."""
        return ConvModule(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def depthwise(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> DepthwiseSeparableConvModule:
        """The same, depthwise separable."""
        return DepthwiseSeparableConvModule(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def around(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Module:
        """`depthwise` or `conv`, as `use_depthwise` says."""
        make = self.depthwise if self.use_depthwise else self.conv
        return make(in_channels, out_channels, kernel_size, stride)


class DarknetBottleneck(nn.Module):
    """A 1 x 1 and a 3 x 3 convolution, added to the input if `add_identity`."""

    def __init__(self, channels: int, make: Make, *, add_identity: bool = True) -> None:
        super().__init__()
        self.conv1 = make.conv(channels, channels, 1)
        self.conv2 = make.around(channels, channels, 3)
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class CSPNeXtBlock(nn.Module):
    """A 3 x 3 and a depthwise separable 5 x 5 convolution, added to the input if `add_identity` (RTMDet)."""

    def __init__(self, channels: int, make: Make, *, add_identity: bool = True) -> None:
        super().__init__()
        self.conv1 = make.around(channels, channels, 3)
        self.conv2 = make.depthwise(channels, channels, 5)
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class ChannelAttention(nn.Module):
    """Weights each channel by the means of all channels (mmdet/models/layers/se_layer.py)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        # The mean of a large map overflows in half precision.
        with without_autocast(x):
            mean = self.global_avgpool(x)
        weight: Tensor = self.act(self.fc(mean))
        return x * weight


class CSPLayer(nn.Module):
    """Half of the channels go through the blocks (Wang et al., 2019, https://arxiv.org/abs/1911.11929).

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        make: How convolutions are made.
        expand_ratio: The hidden channels of each half, as a share of those that go out.
        num_blocks: Blocks one after another.
        add_identity: Whether blocks add their input.
        use_cspnext_block: Whether blocks are CSPNeXt's or Darknet's.
        channel_attention: Whether `ChannelAttention` stands before the last convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        make: Make,
        *,
        expand_ratio: float = 0.5,
        num_blocks: int = 1,
        add_identity: bool = True,
        use_cspnext_block: bool = False,
        channel_attention: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expand_ratio)
        block = CSPNeXtBlock if use_cspnext_block else DarknetBottleneck
        self.main_conv = make.conv(in_channels, hidden, 1)
        self.short_conv = make.conv(in_channels, hidden, 1)
        self.final_conv = make.conv(2 * hidden, out_channels, 1)
        self.blocks = nn.Sequential(
            *(block(hidden, make, add_identity=add_identity) for _ in range(num_blocks))
        )
        self.attention = ChannelAttention(2 * hidden) if channel_attention else None

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        out: Tensor = self.final_conv(both if self.attention is None else self.attention(both))
        return out


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling: maxima over several neighbourhoods, side by side.

    Follows mmdet/models/backbones/csp_darknet.py.
    """

    def __init__(
        self, in_channels: int, out_channels: int, make: Make, kernel_sizes: tuple[int, ...] = (5, 9, 13)
    ) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv1 = make.conv(in_channels, hidden, 1)
        self.poolings = nn.ModuleList(nn.MaxPool2d(size, 1, padding=size // 2) for size in kernel_sizes)
        self.conv2 = make.conv(hidden * (len(kernel_sizes) + 1), out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat((x, *(pooling(x) for pooling in self.poolings)), dim=1))
        return out


def init_yolo(module: nn.Module) -> None:
    """Initialise all convolutions as PyTorch does (Kaiming uniform, a = sqrt(5)), with biases of 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            kaiming_init(layer, a=sqrt(5), mode="fan_in", nonlinearity="leaky_relu", distribution="uniform")
