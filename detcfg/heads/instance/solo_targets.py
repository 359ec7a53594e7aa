"""The targets of the cells of a grid: shared by the heads of SOLO.

Shapes: N ground-truth objects of one image; a level has a grid of G x G cells, numbered row by row.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.masks import centres
from detcfg.structures import Targets


@frozen(eq=False)
class GridTargets:
    """The targets of the cells of one level in one image."""

    labels: Tensor
    """(G * G,) int64; the number of classes stands for background."""
    cells: Tensor
    """(P,) int64: the cells with a mask as target."""
    gt_inds: Tensor
    """(P,) int64: the index of the object of each."""


@frozen(kw_only=True, eq=False)
class GridTargetMaker:
    """Assigns objects to the cells around their centres of mass.

    Follows `_get_targets_single` in mmdet/models/dense_heads/solo_head.py and solov2_head.py.
    """

    num_classes: int
    num_grids: tuple[int, ...]
    """G of each level."""
    scale_ranges: tuple[tuple[float, float], ...]
    """For each level the least and the greatest square root of the areas of its objects' boxes, in pixels."""
    pos_scale: float
    """The share of an object's box, around its centre, whose cells are positive."""
    shared_cells: bool
    """Whether a cell has the masks of all objects that it is positive for as targets, or that of the last."""

    def __call__(self, targets: Targets, canvas: tuple[int, int]) -> tuple[GridTargets, ...]:
        """For each level the targets of one image in a batch of (height, width) `canvas`.

        Objects are counted as in `targets`, none of which may be ignored, and which must have masks.
        """
        if targets.masks is None:
            raise ValueError(
                "SOLO is trained with masks, and the targets have none. Load the data with masks."
            )
        extents = targets.boxes[:, 2:] - targets.boxes[:, :2]
        sizes = (extents[:, 0] * extents[:, 1]).sqrt()
        visible = targets.masks.flatten(1).any(dim=1)
        middles = centres(targets.masks)
        found: list[GridTargets] = []
        for grid, (low, high) in zip(self.num_grids, self.scale_ranges, strict=True):
            chosen = ((sizes >= low) & (sizes <= high) & visible).nonzero().flatten()
            cells, which = self._cells(middles[chosen], 0.5 * extents[chosen] * self.pos_scale, grid, canvas)
            found.append(self._level(targets.labels, cells, chosen[which], grid))
        return tuple(found)

    def _cells(
        self, middles: Tensor, margins: Tensor, grid: int, canvas: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The cells of objects with centres (n, 2) and half extents (n, 2), at most 3 x 3 for each.

        Returns cells and objects, (P,) each, object by object and row by row.
        """
        size = middles.new_tensor((canvas[1], canvas[0]))
        middle = _cell(middles / size, grid)
        first = torch.maximum(_cell((middles - margins) / size, grid).clamp(min=0), middle - 1)
        last = torch.minimum(_cell((middles + margins) / size, grid).clamp(max=grid - 1), middle + 1)
        near = middle[:, None] + torch.arange(-1, 2, device=middles.device)[None, :, None]  # (n, 3, 2)
        inside = (near >= first[:, None]) & (near <= last[:, None])
        taken = inside[:, :, None, 1] & inside[:, None, :, 0]  # (n, row, column)
        numbers = near[:, :, None, 1] * grid + near[:, None, :, 0]
        return numbers[taken], taken.nonzero()[:, 0]

    def _level(self, labels: Tensor, cells: Tensor, objects: Tensor, grid: int) -> GridTargets:
        """The targets of a level; the label of a cell of several objects is that of the last."""
        claims = torch.arange(len(cells), device=cells.device)
        last = torch.full((grid * grid,), -1, device=cells.device).scatter_reduce(0, cells, claims, "amax")
        taken = (last >= 0).nonzero().flatten()
        owners = objects[last[taken]]
        cell_labels = torch.full((grid * grid,), self.num_classes, device=cells.device)
        cell_labels[taken] = labels[owners]
        if not self.shared_cells:
            cells, objects = taken, owners
        return GridTargets(labels=cell_labels, cells=cells, gt_inds=objects)


def _cell(share: Tensor, grid: int) -> Tensor:
    """The cell of a point that is given as a share of the image."""
    return torch.div(share, 1.0 / grid, rounding_mode="trunc").long()
