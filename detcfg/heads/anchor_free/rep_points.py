"""Boxes of point sets, and grids of points on boxes.

Shapes: maps of n points are (B, 2 n, H, W) = (y, x) of one point after another; boxes are (B, 4, H, W) =
(x1, y1, x2, y2); both in any unit, relative to the location.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TransformMethod = Literal["minmax", "partial_minmax", "moment"]


def kernel_offsets(side: int) -> Tensor:
    """(1, 2 * side^2, 1, 1): the offsets (y, x) of the taps of a square kernel from its centre."""
    reach = torch.arange(side) - side // 2
    rows, columns = torch.meshgrid(reach, reach, indexing="ij")
    return torch.stack((rows, columns), dim=-1).reshape(1, -1, 1, 1).float()


def points_to_boxes(points: Tensor, method: TransformMethod, stretch: Tensor | None = None) -> Tensor:
    """The box of each set of points.

    Args:
        points: (B, 2 n, H, W).
        method: The smallest box around all of them or around the first four, or the one whose centre
            is their mean and whose half sides are their standard deviations, times e^stretch.
        stretch: (2,), of width and height.

    Follows `points2bbox` in mmdet/models/dense_heads/reppoints_head.py.
    """
    y, x = points[:, 0::2], points[:, 1::2]
    if method == "moment":
        x_mean, y_mean = x.mean(dim=1), y.mean(dim=1)
        half_width, half_height = x.std(dim=1), y.std(dim=1)
        if stretch is not None:
            half_width, half_height = half_width * stretch[0].exp(), half_height * stretch[1].exp()
        corners = (x_mean - half_width, y_mean - half_height, x_mean + half_width, y_mean + half_height)
        return torch.stack(corners, dim=1)
    if method == "partial_minmax":
        y, x = y[:, :4], x[:, :4]
    return torch.stack((x.amin(dim=1), y.amin(dim=1), x.amax(dim=1), y.amax(dim=1)), dim=1)


def grids_on_boxes(deltas: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Boxes moved and resized, and side x side points spread over each of them, row by row.

    Args:
        deltas: (B, 4, H, W): shift of the centre (x, y) in units of the box, log of the growth (x, y).
        boxes: (B, 4, H, W), or of height and width 1.
        side: Points along each side.

    Returns:
        Points (B, 2 * side^2, H, W) and boxes (B, 4, H, W).

    Follows `gen_grid_from_reg` in mmdet/models/dense_heads/reppoints_head.py.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    extent = size * deltas[:, 2:].exp()
    start = centre + size * deltas[:, :2] - 0.5 * extent
    steps = torch.linspace(0.0, 1.0, side, device=deltas.device, dtype=deltas.dtype)[:, None, None]
    x, y = (start[:, i, None] + extent[:, i, None] * steps for i in (0, 1))  # (B, side, H, W)
    shape = (len(deltas), side, side, *deltas.shape[2:])
    rows, columns = y[:, :, None].expand(shape), x[:, None].expand(shape)
    points = torch.stack((rows, columns), dim=3).flatten(1, 3)
    return points, torch.cat((start, start + extent), dim=1)
