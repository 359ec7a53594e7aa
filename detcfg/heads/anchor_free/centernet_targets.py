"""The targets of the points of CenterNet2's head.

Shapes: B images; A points over all L levels, one at each location; N ground-truth objects of one image, M of the
batch; K classes; P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.geometry import centres, side_distances
from detcfg.heads.dense.levels import of_positives, per_level
from detcfg.structures import Targets

FAR = 1e9
"""Further, and a worse loss, than any."""
NEGLIGIBLE = 1e-4
"""Heat below this is none."""


@frozen(eq=False)
class HeatTargets:
    """The targets of a batch."""

    heat: Tensor
    """(B, A, K) in [0, 1]: 1 at the cell of an object's centre, less around it."""
    distances: Tensor
    """(B, A, 4): (left, top, right, bottom) to the sides of the point's object, in strides."""
    positive: Tensor
    """(B, A) bool: the positives of box regression."""

    def priors_of(self, points: Sequence[Tensor]) -> Tensor:
        """(P, 2): the points of the positives, from those of each level (n_i, 2)."""
        return of_positives(torch.cat(list(points)), self.positive)


@frozen(kw_only=True, eq=False)
class HeatTargetMaker:
    """Follows `get_targets` in mmdet/models/dense_heads/centernet_update_head.py."""

    num_classes: int
    """Classes of the data."""
    strides: tuple[int, ...]
    """Stride of each level."""
    regress_ranges: tuple[tuple[float, float], ...]
    """For each level the least and the greatest half diagonal of its objects, in pixels."""
    min_radius: float
    """The least radius of an object's heat, in pixels."""
    delta: float
    """The radius of an object's heat in units of the root of twice its area."""

    def __call__(self, points: Sequence[Tensor], targets: Sequence[Targets]) -> HeatTargets:
        """The targets of a batch, from the points (n_i, 2) of each level and the ground truth of each image."""
        images = [self._image(points, objects.not_ignored) for objects in targets]
        return HeatTargets(
            heat=torch.stack([image.heat for image in images]),
            distances=torch.stack([image.distances for image in images]),
            positive=torch.stack([image.positive for image in images]),
        )

    def _image(self, points: Sequence[Tensor], objects: Targets) -> HeatTargets:
        flat, strides = torch.cat(list(points)), per_level(self.strides, points)
        if len(objects) == 0:
            # MMDetection's heat is the number of classes here, which makes the loss explode.
            return HeatTargets(
                heat=flat.new_zeros(len(flat), self.num_classes),
                distances=flat.new_zeros(len(flat), 4),
                positive=torch.zeros(len(flat), dtype=torch.bool, device=flat.device),
            )
        boxes = objects.boxes.to(flat)
        distances = side_distances(flat[:, None], boxes)
        centre = centres(boxes)
        step = strides[:, None, None]
        from_cell = flat[:, None] - ((centre / step).int() * step + step / 2)
        near = (from_cell.abs() <= step).all(dim=-1) & (distances.amin(dim=-1) > 0)
        suits = near & self._suits(distances, points)

        spread = (self.delta**2 * 2 * (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)).clamp(
            min=self.min_radius**2
        )
        remoteness = (flat[:, None] - centre).square().sum(dim=-1)
        remoteness = remoteness.masked_fill(from_cell.square().sum(dim=-1) == 0, 0) / spread
        nearest, chosen = remoteness.where(suits, FAR).min(dim=1)
        rows = torch.arange(len(flat), device=flat.device)
        return HeatTargets(
            heat=self._heat(remoteness, objects.labels),
            distances=distances[rows, chosen] / strides[:, None],
            positive=nearest < FAR,
        )

    def _suits(self, distances: Tensor, points: Sequence[Tensor]) -> Tensor:
        """(A, N): whether the size of an object suits the level of a point."""
        low = per_level([low for low, _ in self.regress_ranges], points)[:, None]
        high = per_level([high for _, high in self.regress_ranges], points)[:, None]
        reach = half_diagonal(distances)
        return (reach >= low) & (reach <= high)

    def _heat(self, remoteness: Tensor, labels: Tensor) -> Tensor:
        """(A, K): e^-remoteness of the nearest object of each class, from (A, N)."""
        nearest = remoteness.new_full((len(remoteness), self.num_classes), torch.inf)
        nearest = nearest.scatter_reduce(1, labels.expand(len(remoteness), -1), remoteness, "amin")
        heat = (-nearest).exp()
        return heat.where(heat >= NEGLIGIBLE, 0)


def half_diagonal(distances: Tensor) -> Tensor:
    """(..., 4) = (left, top, right, bottom) to (...): half the diagonal of the box."""
    return (distances[..., :2] + distances[..., 2:]).square().sum(dim=-1).sqrt() / 2


@frozen(kw_only=True, eq=False)
class MorePositives:
    """Makes the points around an object's centre positives of its class where its box is predicted well.

    Follows `add_cls_pos_inds` in mmdet/models/dense_heads/centernet_update_head.py.
    """

    strides: tuple[int, ...]
    """Stride of each level."""
    regress_ranges: tuple[tuple[float, float], ...]
    """For each level the least and the greatest half diagonal of its objects, in pixels."""
    thresh: float
    """The box loss below which a point may be positive."""
    topk: int
    """Positives of an object, about."""

    def __call__(
        self,
        sizes: Sequence[tuple[int, int]],
        predicted: Tensor,
        targets: Sequence[Targets],
        box_loss: Callable[[Tensor, Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The additional positives of classification, and their classes.

        Args:
            sizes: (height, width) of each level.
            predicted: (B * A, 4) distances, in strides.
            targets: The ground truth of each image.
            box_loss: The loss (n,) of distances (n, 4) against distances (n, 4).

        Returns:
            Indices into B * A (P,), and classes (P,).
        """
        kept = [objects.not_ignored for objects in targets]
        labels = torch.cat([objects.labels for objects in kept])
        boxes = torch.cat([objects.boxes for objects in kept]).to(predicted)
        if len(labels) == 0:
            return labels, labels
        counts = torch.tensor([len(objects) for objects in kept], device=labels.device)
        images = torch.arange(len(kept), device=labels.device).repeat_interleave(counts)
        inds, distances, valid, suits = self._candidates(boxes, images, sizes)
        losses = box_loss(predicted[inds.flatten()], distances.clamp(min=0).flatten(0, 2))
        losses = losses.reshape(inds.shape).masked_fill(~valid, FAR)
        losses[..., 4][suits] = 0  # the cell of an object's centre is positive in any case
        losses = losses.flatten(1)
        threshold = losses.kthvalue(min(self.topk, losses.shape[1]), dim=1).values.clamp(max=self.thresh)
        positive = losses < threshold[:, None]
        return inds.flatten(1)[positive], labels[:, None].expand_as(losses)[positive]

    def _candidates(
        self, boxes: Tensor, images: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The 3 x 3 points around the centre of each box (M, 4) on each level.

        Returns:
            Indices (M, L, 9) into B * A, 0 for those that are none; distances to the sides of the
            box in strides (M, L, 9, 4); which are points in the box (M, L, 9); and whether a box suits a
            level (M, L).
        """
        device = boxes.device
        step = boxes.new_tensor(self.strides)[:, None]
        height, width = torch.tensor(sizes, device=device).T
        areas = height * width
        starts = areas.cumsum(0) - areas
        low, high = boxes.new_tensor(self.regress_ranges).T

        cells = (centres(boxes)[:, None] / step).long()  # (M, L, 2)
        middles = cells * step + step // 2
        distances = side_distances(middles, boxes[:, None])
        reach = half_diagonal(distances)
        suits = (distances.amin(dim=-1) >= 0) & (reach >= low) & (reach <= high)

        near = torch.arange(-1, 2, device=device)
        beside = torch.stack((near.repeat(3), near.repeat_interleave(3)), dim=-1)  # (9, 2) = (x, y)
        in_strides = (distances / step)[:, :, None] + torch.cat((beside, -beside), dim=-1)
        x, y = (cells[:, :, None] + beside).unbind(-1)
        inside = (x >= 0) & (x < width[:, None]) & (y >= 0) & (y < height[:, None])
        valid = inside & (in_strides.amin(dim=-1) >= 0)
        inds = images[:, None, None] * areas.sum() + starts[:, None] + y * width[:, None] + x
        return inds.where(valid, 0), in_strides, valid, suits
