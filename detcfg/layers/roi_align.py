"""RoIAlign on the CPU as a product with few weights.

torchvision's kernel visits the samples of each bin one by one, channel by channel, in one thread. But
what a bin is made of does not depend on the channel, and its weights are those of its rows times those
of its columns. With channels last, a bin is a weighted sum of rows of memory: an embedding bag.

Shapes: R rois, feature maps (B, C, H, W), bins (P_h, P_w).
"""

from __future__ import annotations

from typing import Final, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from detcfg import ops
from detcfg.layers.unsort import unsort

MAX_WEIGHTS: Final = 4_000_000
"""More of them would take more memory than their speed is worth."""
MIN_CHANNELS: Final = 16
"""With fewer, making the weights takes longer than the samples do."""


class _Geometry(TypedDict):
    spatial_scale: float
    sampling_ratio: int
    aligned: bool


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    *,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """`detcfg.ops.roi_align`, on the CPU in the faster way where there is one."""
    geometry: _Geometry = {
        "spatial_scale": spatial_scale,
        "sampling_ratio": sampling_ratio,
        "aligned": aligned,
    }
    if features.device.type == "cpu":
        pooled = weighted_roi_align(features, rois, output_size, **geometry)
        if pooled is not None:
            return pooled
    return ops.roi_align(features, rois, output_size, **geometry)


def weighted_roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    *,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor | None:
    """What torchvision's `roi_align` gives, up to rounding: (R, C, P_h, P_w), channels last.

    None where it does not pay.
    """
    channels, height, width = features.shape[1:]
    rois = rois.detach().float()  # torchvision gives them no gradient either
    if channels < MIN_CHANNELS or not len(rois):
        return None
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    extents = corners[:, 2:] - corners[:, :2]
    extents = extents if aligned else extents.clamp(min=1.0)
    lengths = extents / extents.new_tensor([output_size[1], output_size[0]])  # of a bin
    samples = torch.full_like(lengths, sampling_ratio) if sampling_ratio > 0 else lengths.ceil()
    # A bin's samples lie so many cells apart; the margin is for the rounding of where they lie.
    span = lengths * (samples - 1).clamp(min=0) / samples.clamp(min=1)
    reach = (span + 1e-3).ceil().amax(1) + 2
    if not float(reach.square().sum()) * output_size[0] * output_size[1] <= MAX_WEIGHTS:  # NaN goes here too
        return None

    # Rois that reach equally far go together, but into one call, so that there is one gradient.
    reach, order = reach.long().sort()
    cells: list[Tensor] = []
    weights: list[Tensor] = []
    counts = [int(count) for count in torch.bincount(reach)]
    for size, group in enumerate(torch.split(order, counts)):
        if not len(group):
            continue
        (x, y), (of_x, of_y) = corners[group, :2].unbind(1), lengths[group].unbind(1)
        samples_x, samples_y = samples[group].unbind(1)
        columns, weights_x = _axis(x, of_x, samples_x, bins=output_size[1], cells=width, reach=size)
        rows, weights_y = _axis(y, of_y, samples_y, bins=output_size[0], cells=height, reach=size)
        rows = rois[group, 0].long()[:, None, None] * height + rows
        cells.append((rows[:, :, None, :, None] * width + columns[:, None, :, None, :]).int().flatten())
        weights.append((weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]).flatten())
    members = (reach**2).int().repeat_interleave(output_size[0] * output_size[1])
    flat = features.permute(0, 2, 3, 1).reshape(-1, channels).float()
    starts = (members.cumsum(0) - members).int()
    pooled = F.embedding_bag(
        torch.cat(cells), flat, starts, mode="sum", per_sample_weights=torch.cat(weights)
    )
    in_order = unsort(pooled.view(len(rois), *output_size, channels), order)
    return in_order.permute(0, 3, 1, 2).to(features.dtype)


def _axis(
    start: Tensor, size: Tensor, samples: Tensor, *, bins: int, cells: int, reach: int
) -> tuple[Tensor, Tensor]:
    """Of n rois, the cells of each bin along one axis and their weights, (n, bins, reach) both.

    Args:
        start: (n,) where the rois begin, in cells.
        size: (n,) the length of a bin, in cells.
        samples: (n,) samples of a bin.
        bins: Bins of a roi.
        cells: Cells of the map.
        reach: Cells that the samples of a bin lie between, at most.
    """
    number = torch.arange(int(samples.max()), device=start.device)
    bin_start = start[:, None] + torch.arange(bins, device=start.device) * size[:, None]
    size, samples = size[:, None, None], samples[:, None, None]
    at = bin_start[..., None] + (number + 0.5) * size / samples.clamp(min=1)
    share = ((number < samples) & (at >= -1) & (at <= cells)) / samples.clamp(min=1)
    at = at.clamp(0, cells - 1)
    below = at.floor()
    above_share = (at - below) * share
    below = below.long()
    first = below.amin(-1, keepdim=True) if below.shape[-1] else below.new_zeros(*below.shape[:2], 1)
    offset = (below - first).clamp(max=reach - 2)
    weights = start.new_zeros(*below.shape[:2], reach)
    weights.scatter_add_(2, offset, share - above_share).scatter_add_(2, offset + 1, above_share)
    return (first + torch.arange(reach, device=start.device)).clamp(max=cells - 1), weights
