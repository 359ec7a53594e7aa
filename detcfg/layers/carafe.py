"""Content-aware upsampling: kernels are predicted from the features (mmcv/ops/carafe.py).

Shapes: N maps of C channels in G groups; s the scale factor, k the side of a kernel.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.config import ConfigError
from detcfg.config.ranges import PositiveInt
from detcfg.layers.init import normal_init, xavier_init
from detcfg.layers.upsample import UpsampleConfig


@frozen(kw_only=True)
class CARAFEUpsampleConfig(UpsampleConfig):
    """CARAFE (Wang et al., 2019, https://arxiv.org/abs/1905.02188)."""

    up_kernel: PositiveInt = 5
    """k: side of the reassembly kernels, in input cells; odd."""
    up_group: PositiveInt = 1
    """G: groups of channels; each group has its kernels."""
    encoder_kernel: PositiveInt = 3
    """Kernel size of the convolution that predicts the kernels."""
    encoder_dilation: PositiveInt = 1
    """Dilation of that convolution."""
    compressed_channels: PositiveInt = 64
    """Channels of its input, compressed from C."""

    def wired(self) -> Self:
        if self.up_kernel % 2 == 0:
            raise ConfigError(
                f"up_kernel is {self.up_kernel}, but a kernel has a cell in its middle. Make it odd."
            )
        return self

    def build_for(self, in_channels: int, out_channels: int) -> CARAFEUpsample:
        del out_channels
        if in_channels % self.up_group:
            raise ConfigError(
                f"up_group is {self.up_group}, which does not divide the {in_channels} channels."
            )
        return CARAFEUpsample(self, in_channels)


class CARAFEUpsample(nn.Module):
    """(N, C, H, W) to (N, C, s * H, s * W)."""

    def __init__(self, config: CARAFEUpsampleConfig, channels: int) -> None:
        super().__init__()
        self.scale_factor, self.up_kernel, self.up_group = (
            config.scale_factor,
            config.up_kernel,
            config.up_group,
        )
        self.channel_compressor = nn.Conv2d(channels, config.compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            config.compressed_channels,
            config.up_kernel**2 * config.up_group * config.scale_factor**2,
            config.encoder_kernel,
            padding=(config.encoder_kernel - 1) * config.encoder_dilation // 2,
            dilation=config.encoder_dilation,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """At the start all kernels are nearly the mean of their cells."""
        xavier_init(self.channel_compressor, distribution="uniform")
        normal_init(self.content_encoder, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        return reassembled(features, self.kernels(features), self.scale_factor)

    def kernels(self, features: Tensor) -> Tensor:
        """(N, G, k * k, s * H, s * W): the weights of each enlarged cell, whose sum is 1."""
        encoded = self.content_encoder(self.channel_compressor(features))
        logits = F.pixel_shuffle(encoded, self.scale_factor)
        shape = (len(logits), self.up_group, self.up_kernel**2, *logits.shape[-2:])
        return logits.reshape(shape).softmax(dim=2)


def reassembled(features: Tensor, kernels: Tensor, scale: int) -> Tensor:
    """Each enlarged cell as the weighted sum of the cells around its origin, zeros beyond the border.

    Args:
        features: (N, C, H, W).
        kernels: (N, G, k * k, s * H, s * W), the taps of a kernel row by row.
        scale: s.

    Returns:
        (N, C, s * H, s * W).
    """
    images, channels, height, width = features.shape
    groups, taps = kernels.shape[1:3]
    side = round(taps**0.5)
    padded = F.pad(features, [side // 2] * 4)
    padded = padded.reshape(images, groups, channels // groups, *padded.shape[-2:])
    kernels = kernels.reshape(images, groups, 1, taps, height, scale, width, scale)
    # Tap by tap: all taps' cells side by side would be k * k times as large as the features.
    total = features.new_zeros(())
    for tap in range(taps):
        row, column = divmod(tap, side)
        cells = padded[..., row : row + height, column : column + width]
        total = total + cells[..., :, None, :, None] * kernels[:, :, :, tap]
    return total.reshape(images, channels, height * scale, width * scale)
