"""Cells that merge two feature maps; NAS-FPN is made of them (mmcv/ops/merge_cells.py).

Shapes: (B, C, H, W) and (B, C, H', W') to (B, C, *size).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from detcfg.layers.conv_module import ConvModule
from detcfg.layers.norm import NormConfig

Size = tuple[int, int]


class MergeCell(nn.Module):
    """Brings both maps to one size and merges them; then ReLU, convolution and norm.

    Args:
        channels: C.
        norm_cfg: The norm behind the convolution.
        with_out_conv: Whether there are ReLU, convolution and norm.
    """

    def __init__(
        self, channels: int, norm_cfg: NormConfig | None = None, *, with_out_conv: bool = True
    ) -> None:
        super().__init__()
        self.out_conv: nn.Module = nn.Identity()
        if with_out_conv:
            self.out_conv = ConvModule(
                channels, channels, 3, padding=1, bias=True, norm_cfg=norm_cfg, order=("act", "conv", "norm")
            )

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        """One map of two of the same size."""
        raise NotImplementedError

    def forward(self, first: Tensor, second: Tensor, size: Size) -> Tensor:
        out: Tensor = self.out_conv(self.merge(resized(first, size), resized(second, size)))
        return out


class SumCell(MergeCell):
    """The sum."""

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class GlobalPoolingCell(MergeCell):
    """The second, plus the first weighted in each channel by the sigmoid of the second's mean."""

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        attention = second.mean(dim=(2, 3), keepdim=True).sigmoid()
        return second + attention * first


def resized(x: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) to (B, C, *size): its nearest values, or the maxima of its parts.

    Where parts do not come out even, zeros are added around the map.
    """
    height, width = x.shape[-2:]
    if (height, width) == size:
        return x
    if (height, width) < size:
        return F.interpolate(x, size=size, mode="nearest")
    below, right = -height % size[0], -width % size[1]
    x = F.pad(x, (right // 2, right - right // 2, below // 2, below - below // 2))
    return F.max_pool2d(x, kernel_size=(x.shape[-2] // size[0], x.shape[-1] // size[1]))
