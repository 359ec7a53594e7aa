"""The cost of a class probability among several."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.boxes.match_costs.base import MatchCostConfig


@frozen(kw_only=True)
class ClassificationCostConfig(MatchCostConfig):
    """The negative probability of the object's class, by softmax over all logits (MMDetection's `ClassificationCost`)."""

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        del boxes, targets
        index = labels[None, :, None].expand(*logits.shape[:3], -1)
        return -logits.softmax(dim=-1).gather(-1, index)
