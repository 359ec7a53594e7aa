"""Varifocal loss of a detector that matches predictions to objects. N predictions, K classes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat
from detcfg.losses.base import ClassLoss, ClassLossConfig


@frozen(kw_only=True)
class MatchedVarifocalLossConfig(ClassLossConfig):
    """Varifocal loss as RT-DETR and D-FINE have it (Zhang et al., 2020, https://arxiv.org/abs/2008.13367).

    Unlike `VarifocalLossConfig`, a matched prediction whose box misses its object (quality 0) is no negative but
    weighs nothing; the weight of a negative is alpha * p^gamma, and no gradient goes through it. Follows
    `loss_labels_vfl` in zoo/dfine/dfine_criterion.py of Peterande/D-FINE.
    """

    use_sigmoid: Literal[True] = True
    """There is no background class: each class is a decision of its own."""
    alpha: NonNegativeFloat = 0.75
    """Weight of the negatives."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter: larger values down-weight easy negatives more."""

    def build(self) -> MatchedVarifocalLoss:
        return MatchedVarifocalLoss(self.resolved())


class MatchedVarifocalLoss(ClassLoss):
    """`loss(pred, target)`: logits (..., K) against the IoU of a match (..., K) in [0, 1]; -1 for a negative."""

    def __init__(self, config: MatchedVarifocalLossConfig) -> None:
        super().__init__(config)
        self.alpha = config.alpha
        self.gamma = config.gamma

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        quality = target.clamp(min=0).type_as(pred)
        negative = self.alpha * pred.detach().sigmoid().pow(self.gamma)
        weight = quality.where(target >= 0, negative)
        return F.binary_cross_entropy_with_logits(pred, quality, weight=weight, reduction="none")
