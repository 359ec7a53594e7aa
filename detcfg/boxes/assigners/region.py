"""Assignment by the region around an object's centre.

Shapes: A priors, n of a level; N ground-truth boxes of one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.assigners.max_iou import MAX_PAIRS
from detcfg.boxes.geometry import centres
from detcfg.config.ranges import Fraction
from detcfg.structures import Targets


@frozen(kw_only=True)
class RegionAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to the anchors near their centres, on the level that suits their size.

    From Region Proposal by Guided Anchoring (Wang et al., 2019, https://arxiv.org/abs/1901.03278), used
    by Cascade RPN. Anchors around those are ignored, and so are those at the same position on adjacent
    levels. Follows mmdet/models/task_modules/assigners/region_assigner.py.
    """

    center_ratio: Fraction = 0.2
    """Size of the region of positives over that of the box."""
    ignore_ratio: Fraction = 0.5
    """Size of the region beyond which anchors are negative, over that of the box."""

    def assign(
        self,
        priors: Tensor,
        targets: Targets,
        *,
        num_level_priors: Sequence[int],
        featmap_sizes: Sequence[tuple[int, int]],
        strides: Sequence[int],
        anchor_scale: float,
    ) -> Assignment:
        """Assign the anchors of one image.

        Args:
            priors: (A, 4), one scale at each location, all levels one after another.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
            num_level_priors: How many of the priors belong to each level.
            featmap_sizes: (height, width) of each level.
            strides: Of each level.
            anchor_scale: The anchors' side over the stride.
        """
        boxes = targets.not_ignored.boxes
        box_levels = object_levels(boxes, anchor_scale * strides[0], len(strides))
        gt_indices = [
            self._level(level_priors / stride, boxes / stride, box_levels - level, size)
            for level, (level_priors, stride, size) in enumerate(
                zip(torch.split(priors, list(num_level_priors)), strides, featmap_sizes, strict=True)
            )
        ]
        return Assignment(gt_indices=torch.cat(gt_indices), max_overlaps=priors.new_zeros(len(priors)))

    def _level(self, priors: Tensor, boxes: Tensor, distance: Tensor, size: tuple[int, int]) -> Tensor:
        """(n,): `gt_indices` of the priors (n, 4) of a level; all in cells. `distance` (N,) is in levels."""
        marks, is_adjacent = painted(
            centres(priors),
            boxes,
            distance,
            size,
            center_ratio=self.center_ratio,
            ignore_ratio=self.ignore_ratio,
        )
        gt_indices = torch.where(marks % 2 == 1, marks // 2, IGNORED).where(marks >= 0, NEGATIVE)
        return gt_indices.masked_fill(is_adjacent, IGNORED)


def painted(
    points: Tensor,
    boxes: Tensor,
    distance: Tensor,
    size: tuple[int, int],
    *,
    center_ratio: float,
    ignore_ratio: float,
) -> tuple[Tensor, Tensor]:
    """Draw the regions of all objects onto the points of a level, a later object over an earlier one.

    Args:
        points: (n, 2), in cells.
        boxes: (N, 4), in cells.
        distance: (N,), the levels from this one to the object's level.
        size: (height, width) of the level.
        center_ratio: Size of the region of positives over that of the box.
        ignore_ratio: Size of the region beyond which points are negative, over that of the box.

    Returns:
        The mark of the last object of this level whose region a point is in, (n,) int64: 2 i + 1 for a
        positive of object i, 2 i for a point around it, which is ignored, -1 for a point in no region; and
        which points lie in the region of an object of an adjacent level, (n,) bool.
    """
    numbers = torch.arange(len(boxes), device=boxes.device)
    marks = torch.full((len(points),), -1, device=points.device)
    is_adjacent = torch.zeros_like(marks, dtype=torch.bool)
    step = max(1, MAX_PAIRS // max(1, len(points)))
    for first in range(0, len(boxes), step):
        part = slice(first, first + step)
        around = _inside(points, region(boxes[part], ignore_ratio, size))
        central = _inside(points, region(boxes[part], center_ratio, size))
        of_this_level = (distance[part] == 0)[:, None]
        number = 2 * numbers[part, None]
        new_marks = torch.where(central, number + 1, torch.where(around, number, -1)).where(of_this_level, -1)
        marks = torch.maximum(marks, new_marks.amax(dim=0))
        is_adjacent |= (around & (distance[part].abs() == 1)[:, None]).any(dim=0)
    return marks, is_adjacent


def object_levels(boxes: Tensor, finest_size: float, num_levels: int) -> Tensor:
    """(N,) int64: the level whose anchors are nearest in size to boxes (N, 4), those of the first having
    sides of `finest_size` pixels and each level twice those of the one before.
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    scale = (sizes[:, 0] * sizes[:, 1]).sqrt()
    smallest = torch.log2(scale.new_tensor(finest_size))
    return torch.floor(torch.log2(scale) - smallest + 0.5).clamp(0, num_levels - 1).long()


def region(boxes: Tensor, ratio: float, size: tuple[int, int]) -> Tensor:
    """The boxes (N, 4) shrunk about their centres, rounded and within a map of (height, width), in cells."""
    share = (1 - ratio) / 2
    low, high = boxes[:, :2], boxes[:, 2:]
    corners = torch.cat([(1 - share) * low + share * high, share * low + (1 - share) * high], dim=1).round()
    x, y = corners[:, 0::2].clamp(0, size[1]), corners[:, 1::2].clamp(0, size[0])
    return torch.stack([x, y], dim=-1).flatten(1)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(N, n) bool: which points (n, 2) lie in or on which boxes (N, 4)."""
    x, y = points.unbind(dim=1)
    x1, y1, x2, y2 = boxes[:, :, None].unbind(dim=1)
    return (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
