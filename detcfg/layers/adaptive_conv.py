"""Convolutions that fit anchors.

Shapes: (B, in_channels, H, W) to (B, out_channels, H, W); one anchor at each location.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from detcfg.layers.conv import ConvSpec
from detcfg.layers.deform_conv import DeformConv2d


class AdaptiveConv(nn.Module):
    """A 3 x 3 convolution (mmdet/models/dense_heads/cascade_rpn_head.py).

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        adapt_type: "dilation": a dilated convolution; "offset": a deformable one, whose offsets come in.
        dilation: Pixels from one tap of the dilated kernel to the next.
    """

    def __init__(
        self, in_channels: int, out_channels: int, adapt_type: Literal["dilation", "offset"], dilation: int
    ) -> None:
        super().__init__()
        self.conv: nn.Module = (
            DeformConv2d(ConvSpec(in_channels, out_channels, 3, padding=1, bias=False))
            if adapt_type == "offset"
            else nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        )

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """`offset` (B, 18, H, W) is (y, x) of each tap, for `adapt_type="offset"`."""
        out: Tensor = self.conv(x) if offset is None else self.conv(x, offset)
        return out


def anchor_offsets(anchors: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Offsets (B, 18, H, W) by which a 3 x 3 kernel samples corners, edges and centre of the anchors.

    Args:
        anchors: (B, H * W, 4) in pixels, one for each location, row by row.
        stride: Pixels of a cell.
        size: (H, W).
    """
    height, width = size
    boxes = anchors.view(len(anchors), height, width, 4) / stride
    steps = torch.arange(-1, 2, dtype=anchors.dtype, device=anchors.device)
    tap_y, tap_x = (taps.flatten() for taps in torch.meshgrid(steps, steps, indexing="ij"))
    rows = torch.arange(height, dtype=anchors.dtype, device=anchors.device)[:, None]
    columns = torch.arange(width, dtype=anchors.dtype, device=anchors.device)
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    offset_y = ((y1 + y2) * 0.5 - rows)[..., None] + ((y2 - y1) / 2 - 1)[..., None] * tap_y
    offset_x = ((x1 + x2) * 0.5 - columns)[..., None] + ((x2 - x1) / 2 - 1)[..., None] * tap_x
    return torch.stack([offset_y, offset_x], dim=-1).flatten(3).permute(0, 3, 1, 2).contiguous()
