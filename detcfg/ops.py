"""torchvision's operators, imported when first called; torch's own that come without types.

Importing torchvision costs as much as importing torch, and a config is read without it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch

from detcfg.precision import widened, without_autocast

if TYPE_CHECKING:
    from torch import Tensor


MANY: Final = 1000
"""From so many boxes on, it pays to compare those of one group only."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None) -> Tensor:
    """Indices of the boxes that survive, by falling score. `boxes` (N, 4), `scores` (N,).

    Where scores tie, as the many ones of a saturated sigmoid do, the order is that of torch's sort, as
    in MMCV's operator; torchvision's own takes the order of the boxes.

    `groups` (N,) may tell which boxes do not meet those of others. The result is the same, with fewer
    comparisons on the CPU, where each box that survives is compared with all.
    """
    from torchvision import ops

    falling, order = scores.sort(descending=True)
    boxes = boxes[order]
    if groups is None or boxes.device.type != "cpu" or len(boxes) < MANY:
        return order[ops.nms(boxes, falling, iou_threshold)]
    groups = groups[order]
    survives = torch.zeros_like(groups, dtype=torch.bool)
    for group in unique(groups)[0]:
        own = (groups == group).nonzero().squeeze(1)
        survives[own[ops.nms(boxes[own], falling[own], iou_threshold)]] = True
    return order[survives]


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    *,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Pool (B, C, H, W) at rois (R, 5) = (image index, x1, y1, x2, y2) to (R, C, *output_size).

    `sampling_ratio` 0 takes as many samples as cells, as MMCV's operator does.
    """
    from torchvision import ops

    return ops.roi_align(features, rois, output_size, spatial_scale, sampling_ratio, aligned)


FAR: Final = 6e4
"""Pixels: outside of every feature map, and a number in half precision too."""


def deform_conv2d(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution, v2 where `mask` is given; NaN where an offset is NaN, as after a diverged step.

    Half precision comes out as it came in, but is computed in float32: torchvision has no other on the CPU, and
    the places that are read at would be blurred.
    """
    from torchvision import ops

    given = features.dtype
    features, offset, weight, bias, mask = widened((features, offset, weight, bias, mask))
    # torchvision reads at whatever address NaN comes to, which ends the process.
    broken = offset.isnan().any(dim=1, keepdim=True)
    offset = offset.nan_to_num(nan=FAR, posinf=FAR, neginf=-FAR)
    with without_autocast(features):
        out = ops.deform_conv2d(features, offset, weight, bias, stride, padding, dilation, mask)
    return out.masked_fill(broken, math.nan).to(given)


def unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct values (U,) of a tensor, sorted, and which of them each of its elements is."""
    untyped: Any = torch
    found: tuple[Tensor, Tensor] = untyped.unique(values, return_inverse=True)
    return found


def vector_norm(values: Tensor, dim: int, *, keepdim: bool = False) -> Tensor:
    """The lengths of the vectors along a dimension."""
    untyped: Any = torch.linalg
    lengths: Tensor = untyped.vector_norm(values, dim=dim, keepdim=keepdim)
    return lengths
