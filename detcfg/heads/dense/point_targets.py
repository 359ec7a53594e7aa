"""The targets of each point of a batch: shared by FCOS and its relatives.

Shapes: B images; A points over all levels; N ground-truth objects of one image, P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg import masks
from detcfg.boxes.geometry import boxes_around, centres, inside, side_distances
from detcfg.heads.dense.levels import of_positives, per_level
from detcfg.structures import Targets

FAR = 1e8
"""Further than the side of any image."""
FCOS_RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, FAR))
"""FCOS's ranges of the five levels from stride 8 on."""


@frozen(eq=False)
class PointTargets:
    """The targets of a batch."""

    labels: Tensor
    """(B, A) int64; the number of classes stands for background."""
    num_classes: int
    """That number."""
    distances: Tensor
    """(B, A, 4) float: (left, top, right, bottom) to the sides of the point's object, in pixels; any
    numbers for background."""
    gt_inds: Tensor
    """(B, A) int64: the index of the point's object among those not ignored; any number for background."""

    @property
    def positive(self) -> Tensor:
        """(B, A) bool: the positives."""
        return self.labels < self.num_classes

    def priors_of(self, points: Sequence[Tensor]) -> Tensor:
        """(P, 2): the points of the positives, from those of each level (n_i, 2)."""
        return of_positives(torch.cat(list(points)), self.positive)


@frozen(kw_only=True, eq=False)
class PointTargetMaker:
    """Assigns to each point the smallest of the objects that it lies in and that suit its level.

    From FCOS (Tian et al., 2019, https://arxiv.org/abs/1904.01355). Follows `get_targets` in
    mmdet/models/dense_heads/fcos_head.py.
    """

    num_classes: int
    """Classes of the data."""
    strides: tuple[int, ...]
    """Stride of each level."""
    regress_ranges: tuple[tuple[float, float], ...]
    """For each level the least and the greatest distance from a point to the farthest side of its object, in
    pixels."""
    center_sample_radius: float | None = None
    """Positives lie within this many strides of their object's centre, in x and in y; None: anywhere in its box."""
    mask_centres: bool = False
    """Whether that centre is the mask's centre of mass, where the data has masks, or that of the box."""

    def __call__(self, points: Sequence[Tensor], targets: Sequence[Targets]) -> PointTargets:
        """The targets of a batch, from the points (n_i, 2) of each level and the ground truth of each image."""
        flat = torch.cat(list(points))
        least = per_level([low for low, _ in self.regress_ranges], points)
        most = per_level([high for _, high in self.regress_ranges], points)
        reach = None
        if self.center_sample_radius is not None:
            reach = per_level([stride * self.center_sample_radius for stride in self.strides], points)
        images = [self._image(flat, least, most, reach, objects.not_ignored) for objects in targets]
        return PointTargets(
            labels=torch.stack([labels for labels, _, _ in images]),
            num_classes=self.num_classes,
            distances=torch.stack([distances for _, distances, _ in images]),
            gt_inds=torch.stack([chosen for _, _, chosen in images]),
        )

    def _image(
        self, points: Tensor, least: Tensor, most: Tensor, reach: Tensor | None, objects: Targets
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (A,), distances (A, 4) and indices of objects (A,)."""
        if len(objects) == 0:
            labels = torch.full((len(points),), self.num_classes, device=points.device)
            return labels, points.new_zeros(len(points), 4), torch.zeros_like(labels)
        boxes = objects.boxes.to(points)
        distances = side_distances(points[:, None], boxes)
        positive = distances.amin(dim=-1) > 0
        if reach is not None:
            # Corners rather than the distance to the centre, for MMDetection's rounding.
            positive &= inside(points, boxes_around(self._centres(objects), reach[:, None, None]), 0)
        farthest = distances.amax(dim=-1)
        suits = (farthest >= least[:, None]) & (farthest <= most[:, None])
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        smallest, chosen = areas.where(positive & suits, torch.inf).min(dim=1)
        labels = objects.labels[chosen].where(smallest.isfinite(), self.num_classes)
        return labels, distances[torch.arange(len(points), device=points.device), chosen], chosen

    def _centres(self, objects: Targets) -> Tensor:
        """(N, 2)."""
        if self.mask_centres and objects.masks is not None:
            return masks.centres(objects.masks)
        return centres(objects.boxes)


def centerness(distances: Tensor) -> Tensor:
    """(N, 4) = (left, top, right, bottom) distances, above 0, to (N,) in [0, 1]; 1 is the centre.

    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), as in FCOS (Tian et al., 2019,
    https://arxiv.org/abs/1904.01355).
    """
    near, far = distances[:, :2], distances[:, 2:]
    return torch.sqrt((torch.min(near, far) / torch.max(near, far)).prod(dim=1))
