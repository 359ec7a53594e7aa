"""Positions of a map's cells within their image as sines and cosines (mmdet/models/layers/positional_encoding.py)."""

from __future__ import annotations

import math

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import NonNegativeFloat, PositiveFloat, PositiveInt


@frozen(kw_only=True)
class SinePositionalEncodingConfig(ModuleConfig):
    """Sines and cosines of a cell's row and column (DETR, Carion et al., 2020, https://arxiv.org/abs/2005.12872)."""

    num_feats: PositiveInt = derived()
    """Channels of the row, and as many of the column; an even number."""
    temperature: PositiveFloat = 10000.0
    """The base of the frequencies."""
    normalize: bool = False
    """Whether rows and columns count in shares of the image, times `scale`; else in cells."""
    scale: PositiveFloat = 2 * math.pi
    """What the image's height and width are, with `normalize`."""
    eps: NonNegativeFloat = 1e-6
    """Added to the height and the width before dividing."""
    offset: float = 0.0
    """Added to rows and columns, which count from 1, with `normalize`; -0.5: centres of cells."""

    def build(self) -> SinePositionalEncoding:
        return SinePositionalEncoding(self.resolved())


class SinePositionalEncoding(nn.Module):
    """Channels alternate between sine and cosine; those of the row come first."""

    def __init__(self, config: SinePositionalEncodingConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, padding: Tensor) -> Tensor:
        """The positions (B, H * W, 2 * num_feats), by rows, in float32.

        Args:
            padding: (B, H, W) bool, True beyond the image.
        """
        config = self.config
        inside = (~padding).float()
        rows, columns = inside.cumsum(1), inside.cumsum(2)
        if config.normalize:
            rows = (rows + config.offset) / (rows[:, -1:] + config.eps) * config.scale
            columns = (columns + config.offset) / (columns[:, :, -1:] + config.eps) * config.scale
        cells = torch.stack([rows, columns], dim=-1)
        return waves(cells, config.num_feats, config.temperature).flatten(1, 2)


def waves(values: Tensor, num_feats: int, temperature: float = 10000.0) -> Tensor:
    """(..., n * num_feats): sines and cosines in turn of each of the n numbers in (..., n), at num_feats / 2 frequencies."""
    channel = torch.arange(num_feats, dtype=torch.float32, device=values.device)
    angles = values[..., None] / temperature ** (2 * (channel // 2) / num_feats)
    both = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1)
    return both.flatten(-3)
