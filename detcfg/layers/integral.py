"""The mean of a predicted discrete distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Integral(nn.Module):
    """(..., 4 * (reg_max + 1)) logits to the means (..., 4) of the distributions over 0, 1, …, `reg_max`.

    From GFL (Li et al., 2020, https://arxiv.org/abs/2006.04388); mmdet/models/dense_heads/gfl_head.py.
    """

    project: Tensor
    """(reg_max + 1,): the numbers 0 to `reg_max`."""

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max = reg_max
        self.register_buffer("project", torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, logits: Tensor) -> Tensor:
        bins = logits.reshape(*logits.shape[:-1], 4, self.reg_max + 1).softmax(dim=-1)
        return bins @ self.project.to(bins)
