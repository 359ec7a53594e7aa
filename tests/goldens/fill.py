"""The weights and images on which both programs compute: each follows from its name, so that only figures travel."""

from __future__ import annotations

import math
import re
import zlib

import torch
from torch import Tensor
from torch.nn import functional as F

LAST_NORM_OF_A_BLOCK = re.compile(r"\.bn3\.|^(?!.*\.layer).*\.bn2\.")
SOFTMAX_SCORES = re.compile(r"(fc_cls|rpn_cls)(\.\d+)?\.weight$")


def fill(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The tensor of a state dict in MMDetection's names: random by the name's checksum, scaled by its kind.

    Norms scale by about 1, the last norm of a residual block by half of it, so that activations keep their size
    through a deep network; what gives softmax scores is spread, so that some are sure. A tensor of integers is zero.
    """
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = name.rpartition(".")[2]
    if kind == "running_var":
        value = 1.0 + 0.2 * noise.abs()
    elif kind == "weight" and len(shape) == 1:
        value = (1.0 + 0.1 * noise) * (0.5 if LAST_NORM_OF_A_BLOCK.search(name) else 1.0)
    elif kind in ("running_mean", "bias") or len(shape) < 2:
        value = 0.1 * noise
    else:
        value = noise * math.sqrt(1.0 / math.prod(shape[1:])) * (8.0 if SOFTMAX_SCORES.search(name) else 1.0)
    return value.to(dtype)


def image(height: int, width: int, seed: int) -> Tensor:
    """(3, height, width) uint8 in RGB: a smooth random picture with some grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 9, 9, generator=generator, dtype=torch.float64)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    grain = torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)
    return (128 + 50 * smooth + 8 * grain).clamp(0, 255).round().to(torch.uint8)[0]
