"""torchvision's operators, imported when first called, and those of torch that come without types.

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
"""From this many boxes on, it pays to compare within groups only."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None) -> Tensor:
    """Non-maximum suppression: indices (S,) of the boxes that survive, by falling score.

    Where scores tie, as those of a saturated sigmoid do, the order is that of torch's sort, as in MMCV's
    operator; torchvision's nms goes by the order of the boxes.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        iou_threshold: A box is dropped if its IoU with a better one exceeds this.
        groups: (N,) int. Boxes of different groups do not overlap, as the caller knows; the result is the same
            as without, with fewer comparisons on the CPU, where each surviving box is compared with all.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [20.0, 20.0, 30.0, 30.0]])
    >>> nms(boxes, torch.tensor([0.6, 0.9, 0.7]), iou_threshold=0.5)
    tensor([1, 2])
    """
    from torchvision import ops

    falling, order = scores.sort(descending=True)
    boxes = boxes[order]
    if groups is None or boxes.device.type != "cpu" or len(boxes) < MANY:
        return order[ops.nms(boxes, falling, iou_threshold)]
    groups = groups[order]
    survives = torch.zeros_like(groups, dtype=torch.bool)
    for group in unique(groups)[0]:
        inds = (groups == group).nonzero().squeeze(1)
        survives[inds[ops.nms(boxes[inds], falling[inds], iou_threshold)]] = True
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
    """RoIAlign: pool (B, C, H, W) at rois (R, 5) = (image index, x1, y1, x2, y2) to (R, C, *output_size).

    With `sampling_ratio` 0, a bin takes about one sample for each cell of the feature map, as MMCV's operator does.
    A roi that is not finite, as after a diverged step, gives NaN.
    """
    from torchvision import ops

    # torchvision takes the number of samples and the image's index from such a roi: a hang, or foreign memory.
    broken = ~rois.isfinite().all(dim=1)
    rois = rois.masked_fill(broken[:, None], 0.0)
    pooled = ops.roi_align(features, rois, output_size, spatial_scale, sampling_ratio, aligned)
    return pooled.masked_fill_(broken[:, None, None, None], math.nan)


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
    the sampling locations would be rounded.
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
    """The distinct values (U,) of a tensor, sorted, and for each of its elements the index of its value in them."""
    untyped: Any = torch
    unique_and_inverse: tuple[Tensor, Tensor] = untyped.unique(values, return_inverse=True)
    return unique_and_inverse


def vector_norm(values: Tensor, dim: int, *, keepdim: bool = False) -> Tensor:
    """The lengths of the vectors along a dimension."""
    untyped: Any = torch.linalg
    lengths: Tensor = untyped.vector_norm(values, dim=dim, keepdim=keepdim)
    return lengths
