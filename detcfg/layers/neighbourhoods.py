"""A 3x3 convolution at some locations of a feature map only.

Shapes: a feature map (B, C, H, W); n locations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_at(conv: nn.Conv2d, feature: Tensor, images: Tensor, inds: Tensor) -> Tensor:
    """What `conv` gives at the locations: `conv(feature)[images, :, inds // W, inds % W]`, (n, O).

    Its backward pass costs in proportion to n, not to the size of the map.

    Args:
        conv: 3x3, with stride 1 and a padding of one zero.
        feature: (B, C, H, W).
        images: (n,) int64, 0 to B - 1.
        inds: (n,) int64, 0 to H * W - 1, row by row.
    """
    height, width = feature.shape[-2:]
    around = torch.arange(-1, 2, device=inds.device)
    rows = (inds // width)[:, None] + around.repeat_interleave(3)  # (n, 9)
    columns = (inds % width)[:, None] + around.repeat(3)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    # Channels go last for the index, so that the gradient of a channels_last map is one as well.
    values = feature.permute(0, 2, 3, 1)[images[:, None], rows, columns] * inside[..., None].to(feature.dtype)
    return F.linear(values.flatten(1), conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
