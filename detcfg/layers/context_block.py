"""Global context (mmcv/cnn/bricks/context_block.py)."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import frozen
from torch import Tensor, nn

from detcfg.config.ranges import NonEmpty, PositiveFloat
from detcfg.layers.init import constant_init, kaiming_init
from detcfg.layers.plugin import PluginLayerConfig


@frozen(kw_only=True)
class ContextBlockConfig(PluginLayerConfig):
    """The block of GCNet (Cao et al., 2019, https://arxiv.org/abs/1904.11492)."""

    abbr: ClassVar[str] = "context_block"
    """Its name in MMDetection's state dicts."""

    ratio: PositiveFloat = 1 / 16
    """Channels of the bottleneck that transforms the context, as a fraction of C."""
    pooling_type: Literal["att", "avg"] = "att"
    """"att": the context is an attention-weighted mean over the map; "avg": the mean."""
    fusion_types: NonEmpty[Literal["channel_add", "channel_mul"]] = ("channel_add",)
    """Whether the context is added to every location, scales the channels, or both."""

    def build_for(self, channels: int) -> ContextBlock:
        return ContextBlock(self, channels)


class ContextBlock(nn.Module):
    """Adds one summary of the whole map to every location, or scales by it. Shapes: (B, C, H, W) to the same."""

    def __init__(self, config: ContextBlockConfig, channels: int) -> None:
        super().__init__()
        width = int(channels * config.ratio)
        self.conv_mask = nn.Conv2d(channels, 1, 1) if config.pooling_type == "att" else None
        add, mul = (name in config.fusion_types for name in ("channel_add", "channel_mul"))
        self.channel_add_conv = _transform(channels, width) if add else None
        self.channel_mul_conv = _transform(channels, width) if mul else None
        if self.conv_mask is not None:
            kaiming_init(self.conv_mask, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        context = self.context(x)
        out = x
        if self.channel_mul_conv is not None:
            out = out * self.channel_mul_conv(context).sigmoid()
        if self.channel_add_conv is not None:
            out = out + self.channel_add_conv(context)
        return out

    def context(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1): the mean over all locations, weighted where there is `conv_mask`."""
        if self.conv_mask is None:
            return x.mean((2, 3), keepdim=True)
        weights: Tensor = self.conv_mask(x).flatten(2).softmax(2)  # (B, 1, H * W)
        return (x.flatten(2) @ weights.transpose(1, 2))[..., None]


def _transform(channels: int, width: int) -> nn.Sequential:
    """A bottleneck whose last weights start at 0, so that the block starts as the identity (if it adds)."""
    last = nn.Conv2d(width, channels, 1)
    constant_init(last, 0)
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.LayerNorm([width, 1, 1]), nn.ReLU(inplace=True), last
    )
