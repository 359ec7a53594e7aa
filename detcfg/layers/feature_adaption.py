"""A deformable convolution whose offsets depend on the predicted anchor shape.

Shapes: (B, in_channels, H, W) to (B, out_channels, H, W).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from detcfg.layers.conv import ConvSpec
from detcfg.layers.deform_conv import DeformConv2d
from detcfg.layers.init import normal_init


class FeatureAdaption(nn.Module):
    """The offsets come from the predicted shape, not from the features (Wang et al., 2019).

    https://arxiv.org/abs/1901.03278. Follows mmdet/models/dense_heads/guided_anchor_head.py.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel_size: Side of the kernel.
        deform_groups: Groups of input channels; each group is sampled at its own offsets.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, deform_groups: int = 4
    ) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(2, deform_groups * 2 * kernel_size**2, 1, bias=False)
        spec = ConvSpec(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_adaption = DeformConv2d(spec)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Offsets start with a larger standard deviation, so that shapes matter from the first step."""
        normal_init(self.conv_offset, std=0.1)
        normal_init(self.conv_adaption, std=0.01)

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """`shape` (B, 2, H, W) is the logarithm of an anchor's width and height; no gradient goes through it."""
        return F.relu(self.conv_adaption(x, self.conv_offset(shape.detach())))
