"""Varifocal loss. N predictions, K classes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat
from detcfg.losses.base import ClassLoss, ClassLossConfig


@frozen(kw_only=True)
class VarifocalLossConfig(ClassLossConfig):
    """Focal loss that down-weights easy negatives only (Zhang et al., 2020, https://arxiv.org/abs/2008.13367).

    Follows mmdet/models/losses/varifocal_loss.py.
    """

    use_sigmoid: Literal[True] = True
    """Each class is an independent binary decision; there is no logit for background."""
    alpha: NonNegativeFloat = 0.75
    """Weight of the negatives."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter of the negatives: larger values down-weight easy ones more."""
    iou_weighted: bool = True
    """Whether a positive is weighted by its target quality; else by 1."""

    def build(self) -> VarifocalLoss:
        return VarifocalLoss(self.resolved())


class VarifocalLoss(ClassLoss):
    """`loss(pred, target)`: logits (N, K) against qualities (N, K), 0 for a negative."""

    def __init__(self, config: VarifocalLossConfig) -> None:
        super().__init__(config)
        self.alpha = config.alpha
        self.gamma = config.gamma
        self.iou_weighted = config.iou_weighted

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        target = target.type_as(pred)
        positive = (target > 0).type_as(pred)
        gain = target if self.iou_weighted else positive
        focus = self.alpha * (pred.sigmoid() - target).abs().pow(self.gamma) * (1 - positive)
        return F.binary_cross_entropy_with_logits(pred, target, reduction="none") * (gain * positive + focus)
