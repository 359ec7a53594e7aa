"""Matchability-aware loss of DEIM. N predictions, K classes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat
from detcfg.losses.base import ClassLoss, ClassLossConfig


@frozen(kw_only=True)
class MatchabilityAwareLossConfig(ClassLossConfig):
    """MAL (Huang et al., 2024, https://arxiv.org/abs/2412.04234): poor matches of high score are punished too.

    A positive of quality q costs the cross entropy to q^gamma with weight 1, where varifocal loss weighs it by q.
    """

    use_sigmoid: Literal[True] = True
    """There is no background class: each class is a decision of its own."""
    gamma: NonNegativeFloat = 1.5
    """Exponent of the quality of a positive and of the score of a negative."""

    def build(self) -> MatchabilityAwareLoss:
        return MatchabilityAwareLoss(self.resolved())


class MatchabilityAwareLoss(ClassLoss):
    """`loss(pred, target)`: logits (..., K) against the IoU of a match (..., K) in [0, 1]; -1 for a negative."""

    def __init__(self, config: MatchabilityAwareLossConfig) -> None:
        super().__init__(config)
        self.gamma = config.gamma

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        quality = target.clamp(min=0).type_as(pred).pow(self.gamma)
        negative = pred.detach().sigmoid().pow(self.gamma)
        weight = negative.masked_fill(target >= 0, 1.0)
        return F.binary_cross_entropy_with_logits(pred, quality, weight=weight, reduction="none")
