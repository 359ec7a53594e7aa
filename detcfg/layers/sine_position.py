"""Positions of a feature map's cells as sines and cosines."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def sine_positions(height: int, width: int, channels: int, temperature: float = 10000.0) -> Tensor:
    """(height * width, channels): sin(y), cos(y), sin(x), cos(x) of each cell at channels / 4 frequencies, by rows.

    The references (RT-DETR, D-FINE) list the cells by columns here and by rows everywhere else, which shows on maps
    that are not square only; and what they call x then comes first. On square maps the two are the same.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        channels: A multiple of 4.
        temperature: The base of the frequencies.
    """
    count = channels // 4
    frequency = temperature ** (-torch.arange(count, dtype=torch.float32) / count)
    rows = (torch.arange(height, dtype=torch.float32)[:, None] * frequency).repeat_interleave(width, dim=0)
    columns = (torch.arange(width, dtype=torch.float32)[:, None] * frequency).repeat(height, 1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=1)
