"""Assignment of ground-truth boxes to points.

Shapes: A points, N ground-truth boxes of one image.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.geometry import centres
from detcfg.config.ranges import PositiveInt
from detcfg.ops import vector_norm
from detcfg.structures import Targets


@frozen(kw_only=True)
class PointAssignerConfig(AssignerConfig):
    """Assigns ground-truth boxes to the nearest points of the level that suits their size (RepPoints).

    Yang et al., 2019, https://arxiv.org/abs/1904.11490. Follows mmdet/models/task_modules/assigners/point_assigner.py.
    """

    scale: PositiveInt = 4
    """A level suits objects whose sides are this many strides long."""
    pos_num: PositiveInt = 3
    """Points of each object."""

    def assign(self, points: Tensor, strides: Tensor, targets: Targets) -> Assignment:
        """Assign the points of all levels of one image.

        Args:
            points: (A, 2) = (x, y).
            strides: (A,), the stride of each point's level.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        boxes = targets.not_ignored.boxes
        gt_indices = torch.full((len(points),), NEGATIVE, device=points.device)
        none = points.new_zeros(len(points))
        if len(boxes) == 0 or len(points) == 0:
            return Assignment(gt_indices=gt_indices, max_overlaps=none)

        centre, size = centres(boxes), (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
        point_levels = torch.log2(strides).int()
        box_levels = torch.log2(size / self.scale).sum(dim=1).div(2).int()
        box_levels = box_levels.clamp(point_levels.min(), point_levels.max())
        ends = torch.nonzero(point_levels.diff()).flatten() + 1

        distances: list[Tensor] = []
        for inner, levels in zip(
            torch.tensor_split(points, ends.cpu()), torch.tensor_split(point_levels, ends.cpu()), strict=True
        ):
            distance = vector_norm((inner[:, None] - centre) / size, dim=-1)
            nearest, rows = torch.topk(distance, min(self.pos_num, len(inner)), dim=0, largest=False)
            chosen = torch.full_like(distance, torch.inf).scatter_(0, rows, nearest)
            distances.append(chosen.where(box_levels == levels[0], torch.inf))
        # A point that several objects chose goes to the nearest, of equally near ones to the first.
        distance, best = torch.cat(distances).min(dim=1)
        return Assignment(gt_indices=best.where(distance.isfinite(), gt_indices), max_overlaps=none)
