"""Stochastic depth (mmcv/cnn/bricks/drop.py)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """In training, drops the residual of whole samples (Huang et al., 2016, https://arxiv.org/abs/1603.09382).

    Shapes: (B, …) to the same. What is kept is divided by 1 - drop_prob, so that the expected value is the input.
    """

    def __init__(self, drop_prob: float = 0.1) -> None:
        """`drop_prob` is in [0, 1)."""
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0 or not self.training:
            return x
        kept = 1 - self.drop_prob
        drawn = torch.rand((len(x),) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x / kept * (kept + drawn).floor()


def drop_path_rates(last: float, depths: tuple[int, ...]) -> list[list[float]]:
    """The drop probability of each block of each stage, rising linearly from 0 at the first to `last`."""
    steps = max(sum(depths) - 1, 1)
    rates = [last * block / steps for block in range(sum(depths))]
    return [rates[sum(depths[:i]) :][:depth] for i, depth in enumerate(depths)]
