"""Assignment by the region around an object's centre.

Shapes: A priors, n of a level; N objects of one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import field, frozen, validators
from torch import Tensor

from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.assigners.max_iou import MAX_PAIRS
from detcfg.boxes.geometry import centres
from detcfg.structures import Targets


@frozen(kw_only=True)
class RegionAssignerConfig(AssignerConfig):
    """Anchors near an object's centre, on the level that suits its size, learn it.

    From Region Proposal by Guided Anchoring (Wang et al., 2019, https://arxiv.org/abs/1901.03278), used
    by Cascade RPN. Those around them learn nothing, and neither do those at the same place on the next
    levels. Follows mmdet/models/task_modules/assigners/region_assigner.py.
    """

    center_ratio: float = field(default=0.2, validator=[validators.ge(0), validators.le(1)])
    """Size of the region of positives over the object's."""
    ignore_ratio: float = field(default=0.5, validator=[validators.ge(0), validators.le(1)])
    """Size of the region beyond which anchors learn background."""

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
            priors: (A, 4), one scale at each place, all levels one after another.
            targets: The objects; indices refer to the learnt ones.
            num_level_priors: How many of the priors belong to each level.
            featmap_sizes: (height, width) of each level.
            strides: Of each level.
            anchor_scale: The anchors' side over the stride.
        """
        boxes = targets.not_ignored.boxes
        own_level = object_levels(boxes, anchor_scale * strides[0], len(strides))
        found = [
            self._level(level_priors / stride, boxes / stride, own_level - level, size)
            for level, (level_priors, stride, size) in enumerate(
                zip(torch.split(priors, list(num_level_priors)), strides, featmap_sizes, strict=True)
            )
        ]
        return Assignment(gt_indices=torch.cat(found), max_overlaps=priors.new_zeros(len(priors)))

    def _level(self, priors: Tensor, boxes: Tensor, distance: Tensor, size: tuple[int, int]) -> Tensor:
        """What the priors (n, 4) of a level learn, (n,); all in cells. `distance` (N,) is in levels."""
        said, beside = painted(
            centres(priors),
            boxes,
            distance,
            size,
            center_ratio=self.center_ratio,
            ignore_ratio=self.ignore_ratio,
        )
        learnt = torch.where(said % 2 == 1, said // 2, IGNORED).where(said >= 0, NEGATIVE)
        return learnt.masked_fill(beside, IGNORED)


def painted(
    points: Tensor,
    boxes: Tensor,
    distance: Tensor,
    size: tuple[int, int],
    *,
    center_ratio: float,
    ignore_ratio: float,
) -> tuple[Tensor, Tensor]:
    """What objects say of the points of a level.

    Args:
        points: (n, 2), in cells.
        boxes: (N, 4), in cells.
        distance: (N,), the levels from this one to the object's own.
        size: (height, width) of the level.
        center_ratio: Size of the region of positives over the object's.
        ignore_ratio: Size of the region beyond which background is learnt.

    Returns:
        What the last object of this level that says anything says, (n,) int64: 2 i + 1 for "object i is
        learnt", 2 i for "nothing is learnt", -1 where none does; and which points lie around an object of
        a level next to this one, (n,) bool.
    """
    numbers = torch.arange(len(boxes), device=boxes.device)
    said = torch.full((len(points),), -1, device=points.device)
    beside = torch.zeros_like(said, dtype=torch.bool)
    step = max(1, MAX_PAIRS // max(1, len(points)))
    for first in range(0, len(boxes), step):
        part = slice(first, first + step)
        around = _inside(points, region(boxes[part], ignore_ratio, size))
        central = _inside(points, region(boxes[part], center_ratio, size))
        own = (distance[part] == 0)[:, None]
        number = 2 * numbers[part, None]
        said_here = torch.where(central, number + 1, torch.where(around, number, -1)).where(own, -1)
        said = torch.maximum(said, said_here.amax(dim=0))
        beside |= (around & (distance[part].abs() == 1)[:, None]).any(dim=0)
    return said, beside


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
