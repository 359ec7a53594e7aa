"""Bilinear enlargement that keeps the centre of the first pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def aligned_bilinear(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) to (B, C, factor * H, factor * W), with the border repeated beyond it.

    Follows `aligned_bilinear` in mmdet/models/utils/misc.py.
    """
    if factor == 1:
        return x
    height, width = x.shape[-2] * factor, x.shape[-1] * factor
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    x = F.interpolate(x, size=(height + 1, width + 1), mode="bilinear", align_corners=True)
    x = F.pad(x, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return x[..., :height, :width]
