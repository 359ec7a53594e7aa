"""Small inputs for the heads of one-stage detectors."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn

from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.structures import ImageBatch, Targets

STRIDES = (8, 16, 32, 64, 128)
SIZE = (128, 192)
CLASSES = 3


def built(config: DenseHeadConfig, *, strides: tuple[int, ...] = STRIDES, in_channels: int = 32) -> DenseHead:
    """The head for three classes, as narrow as group norm allows."""
    torch.manual_seed(0)
    changes: dict[str, Any] = {
        name: 32 for name in ("feat_channels", "point_feat_channels") if hasattr(config, name)
    }
    test_cfg = getattr(config, "test_cfg", None)
    if isinstance(
        test_cfg, DenseTestConfig
    ):  # a fresh head is sure of nothing, and finds things all the same
        changes["test_cfg"] = evolve(test_cfg, score_thr=0.0, nms_pre=50)
    return evolve(config, num_classes=CLASSES, in_channels=in_channels, in_strides=strides, **changes).build()


def fill_weights(module: nn.Module, spread: float = 1.0) -> None:
    """Weights that follow from their names and shapes, so that another program can have the same."""
    for name, tensor in module.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.3
        value = spread * scale * torch.randn(tensor.shape, generator=generator)
        tensor.copy_(0.5 + value.abs() if name.endswith("running_var") else value)


def batch(count: int = 2, output_size: tuple[int, int] = SIZE) -> ImageBatch:
    """Images of 128 x 192 pixels."""
    return ImageBatch(
        tensor=torch.zeros(count, 3, *SIZE),
        sizes=(SIZE,) * count,
        padded_sizes=(SIZE,) * count,
        output_sizes=(output_size,) * count,
    )


def features(
    count: int = 2, *, strides: tuple[int, ...] = STRIDES, in_channels: int = 32
) -> tuple[Tensor, ...]:
    """Feature maps of such images."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in strides]
    return tuple(torch.randn(count, in_channels, *size, generator=generator) for size in sizes)


def objects(*boxes: tuple[float, float, float, float], ignored: bool = False) -> Targets:
    """Objects of the classes 0, 1, 2, 0, …, whose masks fill their boxes."""
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    y, x = torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5
    x1, y1, x2, y2 = tensor[:, :, None].unbind(1)
    masks = ((y > y1) & (y < y2))[:, :, None] & ((x > x1) & (x < x2))[:, None, :]
    return Targets(
        boxes=tensor,
        labels=torch.arange(len(tensor)) % CLASSES,
        masks=masks,
        ignored=torch.full((len(tensor),), ignored),
    )
