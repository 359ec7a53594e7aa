"""torchvision's operators, imported when first called; torch's own that come without types.

Importing torchvision costs as much as importing torch, and a config is read without it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import torch

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

    threads = torch.get_num_threads() if features.device.type == "cpu" else 1
    if threads == 1:
        return ops.roi_align(features, rois, output_size, spatial_scale, sampling_ratio, aligned)
    # As under torchvision's autocast: it computes in float32 and gives the type that it got.
    geometry = rois.float(), spatial_scale, *output_size, sampling_ratio, aligned
    pooled: Any = _ThreadedRoIAlign.apply(features.float(), geometry, threads)
    same: Tensor = pooled.to(features.dtype)
    return same


class _ThreadedRoIAlign(torch.autograd.Function):
    """torchvision's operator on a share of the channels in each thread; its CPU kernels have one only."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, geometry: tuple[Any, ...], threads: int) -> Tensor:
        rois, scale, height, width, ratio, aligned = geometry
        ctx.geometry, ctx.threads, ctx.shape = geometry, threads, features.shape
        last = features.is_contiguous(memory_format=torch.channels_last)
        ctx.memory_format = torch.channels_last if last else torch.contiguous_format
        pooled = features.new_empty(len(rois), features.shape[1], height, width)

        def pool(share: slice) -> None:
            operator = torch.ops.torchvision.roi_align
            pooled[:, share] = operator(features[:, share], rois, scale, height, width, ratio, aligned)

        _in_threads(pool, features.shape[1], threads)
        return pooled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        rois, scale, height, width, ratio, aligned = ctx.geometry
        batch, channels, *size = ctx.shape
        total = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=ctx.memory_format)

        def spread(share: slice) -> None:
            part = gradient[:, share].contiguous()
            operator = torch.ops.torchvision._roi_align_backward  # noqa: SLF001  # nothing else calls it in threads
            shape = batch, part.shape[1], *size
            total[:, share] = operator(part, rois, scale, height, width, *shape, ratio, aligned)

        _in_threads(spread, channels, ctx.threads)
        return total, None, None


def _in_threads(work: Callable[[slice], None], channels: int, threads: int) -> None:
    """Do the work for all channels, an equal share in each thread, without gradients."""
    size = -(-channels // threads)
    shares = [slice(first, first + size) for first in range(0, channels, size)]
    inference = torch.is_inference_mode_enabled()

    def in_this_mode(share: slice) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # each thread has modes of its own
            work(share)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(in_this_mode, shares))  # raises what a thread raised


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
    """Deformable convolution, v2 where `mask` is given."""
    from torchvision import ops

    return ops.deform_conv2d(features, offset, weight, bias, stride, padding, dilation, mask)


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
