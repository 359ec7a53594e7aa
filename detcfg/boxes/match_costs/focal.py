"""The cost of a class score."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.boxes.match_costs.base import MatchCostConfig
from detcfg.config.ranges import NonNegativeFloat, PositiveFloat


@frozen(kw_only=True)
class FocalLossCostConfig(MatchCostConfig):
    """Focal loss of the object's class as a positive, less as a negative (MMDetection's `FocalLossCost`)."""

    alpha: NonNegativeFloat = 0.25
    """Weight of the positive part; the negative one has 1 - alpha."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter: larger values down-weight easy examples more."""
    eps: PositiveFloat = 1e-12
    """Added within logarithms. D-FINE has 1e-8."""

    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        del boxes, targets
        index = labels[None, :, None].expand(*logits.shape[:3], -1)
        p = logits.gather(-1, index).sigmoid()
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + self.eps).log()
        positive = self.alpha * (1 - p) ** self.gamma * -(p + self.eps).log()
        return positive - negative
