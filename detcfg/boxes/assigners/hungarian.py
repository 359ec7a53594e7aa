"""One prediction for each object, such that all pairs together cost least.

Shapes: S sets of predictions (such as layers), B images, Q queries, N objects of an image, K classes; P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.match_costs.base import MatchCostConfig
from detcfg.boxes.match_costs.boxes import BBoxL1CostConfig, IoUCostConfig
from detcfg.boxes.match_costs.focal import FocalLossCostConfig

Indices = NDArray[np.int64]


@frozen(eq=False)
class Pairs:
    """Which prediction is matched with which object; on the CPU, where matching happens."""

    sets: Indices
    """(P,): the set of predictions."""
    images: Indices
    """(P,)."""
    queries: Indices
    """(P,)."""
    objects: Indices
    """(P,): counted through all images of the batch."""

    @classmethod
    def none(cls) -> Pairs:
        """No pairs."""
        return cls(*np.zeros((4, 0), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.sets)


@frozen(kw_only=True)
class HungarianAssignerConfig(AssignerConfig):
    """The matching of least cost (DETR, Carion et al., 2020, https://arxiv.org/abs/2005.12872).

    Follows mmdet/models/task_modules/assigners/hungarian_assigner.py and zoo/dfine/matcher.py of Peterande/D-FINE.
    """

    match_costs: tuple[MatchCostConfig, ...] = (
        FocalLossCostConfig(weight=2.0),
        BBoxL1CostConfig(weight=5.0),
        IoUCostConfig(weight=2.0),
    )
    """The costs that are added up."""

    def match(
        self, logits: Tensor, boxes: Tensor, labels: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> Pairs:
        """Match every set of predictions, in one go and with one wait for the device.

        Args:
            logits: (S, B, Q, K).
            boxes: (S, B, Q, 4) = (cx, cy, w, h) in shares of the image.
            labels: (N,) int64 of each image.
            targets: (N, 4) of each image, as `boxes`.

        Returns:
            The pairs by set, by image and by query. Where there are more objects than queries, some are in none.
        """
        counts = [len(image) for image in labels]
        if not sum(counts):
            return Pairs.none()
        padded = (
            torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True) for values in (labels, targets)
        )
        cost = self.costs(logits, boxes, *padded).float().nan_to_num(nan=1.0).cpu().numpy()
        return solved(cost, counts)

    @torch.no_grad()
    def costs(self, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """(S, B, Q, N): what each pair costs, of objects padded to the same number."""
        costs = [one.weight * one.cost(logits, boxes, labels, targets) for one in self.match_costs]
        return torch.stack(costs).sum(dim=0)


def solved(cost: NDArray[np.float32], counts: Sequence[int]) -> Pairs:
    """The matchings of least cost (S, B, Q, N), of which the first `counts` objects of each image are real."""
    from scipy.optimize import linear_sum_assignment  # only training needs it

    parts: list[tuple[Indices, Indices, Indices, Indices]] = []
    starts = np.cumsum([0, *counts])
    for index, of_set in enumerate(cost):
        for image, (of_image, count, start) in enumerate(zip(of_set, counts, starts, strict=False)):
            queries, objects = linear_sum_assignment(of_image[:, :count])
            parts.append(
                (np.full_like(queries, index), np.full_like(queries, image), queries, objects + start)
            )
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
