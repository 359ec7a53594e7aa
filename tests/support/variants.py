"""The features and objects with which the figures of `variants.json` and `roi_variants.json` were made."""

from __future__ import annotations

import torch
from torch import Tensor

from detcfg.structures import Targets

BACKBONE = {"type": "ResNet", "depth": 18, "frozen_stages": 1}
SIZES, PADDED = ((128, 192), (100, 150)), ((128, 192), (112, 160))
OBJECTS = (
    Targets(
        boxes=torch.tensor([[20.0, 30, 100, 90], [50.0, 10, 150, 120], [5.0, 5, 15, 20], [22.0, 33, 90, 95]]),
        labels=torch.tensor([0, 2, 1, 0]),
    ),
    Targets(boxes=torch.tensor([[10.0, 10, 60, 80], [70.0, 30, 140, 95]]), labels=torch.tensor([1, 2])),
)


def features(strides: list[int]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    sizes = [(-(-128 // stride), -(-192 // stride)) for stride in strides]
    return tuple(torch.randn(2, 32, *size, generator=generator) for size in sizes)
