"""Where in their objects classes have their centres, learnt.

Shapes: A points over all levels; N objects of one image; M pairs of a point and an object.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detcfg.structures import Targets


class CenterPrior(nn.Module):
    """A normal distribution for each class around its objects' centres, in strides (AutoAssign).

    Args:
        num_classes: How many distributions.
        force_topk: Whether objects around no point get the points of highest prior.
        topk: How many of them.

    Follows mmdet/models/dense_heads/autoassign_head.py.
    """

    def __init__(self, num_classes: int, *, force_topk: bool = False, topk: int = 9) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))
        self.force_topk = force_topk
        self.topk = topk

    def forward(self, points: Tensor, strides: Tensor, objects: Targets) -> Tensor:
        """The prior (M,) in [0, 1] of each pair of a point (M, 2), on a level of a stride (M,), and an object."""
        centre = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
        distance = ((points - centre) / strides[:, None] - self.mean[objects.labels]) ** 2
        return torch.exp(-distance / (2 * self.sigma[objects.labels] ** 2)).prod(dim=-1)

    def pairs(self, points: Tensor, strides: Tensor, objects: Targets) -> tuple[Tensor, Tensor]:
        """The object and the point of each pair (M,), by object and then by point: those inside a box.

        Args:
            points: (A, 2).
            strides: (A,).
            objects: The learnt objects.
        """
        before, after = points - objects.boxes[:, None, :2], objects.boxes[:, None, 2:] - points
        inside = torch.cat([before, after], dim=-1).amin(dim=-1) > 0
        if self.force_topk and len(objects):
            lonely = torch.nonzero(~inside.any(dim=1)).squeeze(1)
            for index in lonely:
                alone = objects[index.expand(len(points))]
                best = self(points, strides, alone).topk(min(self.topk, len(points))).indices
                inside[index, best] = True
        owner, point = inside.nonzero(as_tuple=True)
        return owner, point
