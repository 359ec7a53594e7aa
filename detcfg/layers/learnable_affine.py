"""One learnable scale and one shift for a whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LearnableAffine(nn.Module):
    """scale * x + bias, of two numbers (PP-LCNetV3's and HGNetV2's `LAB`). Any shape to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.bias
