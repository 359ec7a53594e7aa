"""Feature maps at points, by bilinear interpolation (mmcv/ops/point_sample.py).

Shapes: R rois (R, 5) = (image index, x1, y1, x2, y2) in network pixels; Q points of each. Points are (x, y),
either in [0, 1] x [0, 1] of their roi or feature map, or in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def point_sample(features: Tensor, points: Tensor, *, align_corners: bool = False) -> Tensor:
    """(N, C, H, W) at points (N, Q, 2) in [0, 1]: (N, C, Q). Beyond the map all is 0."""
    if len(features) == 0:
        return features.flatten(2)[..., :1].expand(-1, -1, points.shape[1])
    grid = points[:, :, None] * 2 - 1
    return F.grid_sample(features, grid.to(features.dtype), align_corners=align_corners).squeeze(3)


def in_pixels(rois: Tensor, points: Tensor) -> Tensor:
    """Points (R, Q, 2) in [0, 1] of their roi, in network pixels."""
    corner, far = rois[:, None, 1:3], rois[:, None, 3:5]
    return points * (far - corner) + corner


def sample_rois(
    features: Tensor, rois: Tensor, points: Tensor, stride: float, *, align_corners: bool = False
) -> Tensor:
    """A feature map (B, C, H, W) at points (R, Q, 2) in [0, 1] of their rois: (R, C, Q)."""
    height, width = features.shape[-2:]
    relative = in_pixels(rois, points) / (rois.new_tensor((width, height)) * stride)
    sampled = features.new_zeros((len(rois), features.shape[1], points.shape[1]))
    for index in range(len(features)):
        rows = (rois[:, 0] == index).nonzero().flatten()
        # All points of an image at once: its rois are the rows of one grid.
        grid = relative[rows].to(features.dtype)[None] * 2 - 1
        if len(rows):
            values = F.grid_sample(features[index, None], grid, align_corners=align_corners)
            sampled = sampled.index_copy(0, rows, values[0].transpose(0, 1))
    return sampled


def regular_grid(side: int, like: Tensor) -> Tensor:
    """(side * side, 2): the centres of the cells of a square in [0, 1], row by row."""
    middles = (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), dim=1)


def uncertainty(logits: Tensor) -> Tensor:
    """-|logit|: highest, 0, where the probability is one half."""
    return -logits.abs()


def uncertain_points(
    logits: Tensor, num_points: int, oversample_ratio: float, importance_sample_ratio: float
) -> Tensor:
    """Random points (N, Q, 2) in [0, 1], most of them where masks are uncertain.

    Args:
        logits: (N, H, W).
        num_points: Q.
        oversample_ratio: Candidates per point, at least 1; the most uncertain candidates are taken.
        importance_sample_ratio: The share of points taken from the candidates, 0 to 1; the others are uniform.

    Follows `get_uncertain_point_coords_with_randomness` in mmdet/models/utils/point_sample.py.
    """
    drawn = torch.rand((len(logits), int(num_points * oversample_ratio), 2), device=logits.device)
    # It is the interpolated logits that count: between -1 and 1 there is a 0.
    doubt = uncertainty(point_sample(logits[:, None], drawn)[:, 0])
    chosen = doubt.topk(int(importance_sample_ratio * num_points), dim=1).indices
    points = drawn.gather(1, chosen[..., None].expand(-1, -1, 2))
    rest = num_points - points.shape[1]
    if rest > 0:
        points = torch.cat((points, torch.rand((len(logits), rest, 2), device=logits.device)), dim=1)
    return points
