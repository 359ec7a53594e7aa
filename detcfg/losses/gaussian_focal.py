"""Gaussian focal loss. Heat maps of K classes."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat, WeightOrOff
from detcfg.losses.base import ClassLoss, ClassLossConfig, reduce_loss

EPS = 1e-12


@frozen(kw_only=True)
class GaussianFocalLossConfig(ClassLossConfig):
    """Focal loss around Gaussian peaks (Law and Deng, 2018, https://arxiv.org/abs/1808.01244).

    Follows mmdet/models/losses/gaussian_focal_loss.py.
    """

    use_sigmoid: Literal[True] = True
    """Each class has its heat map; there is none for background."""
    alpha: NonNegativeFloat = 2.0
    """Focusing parameter: larger values down-weight easy examples more."""
    gamma: NonNegativeFloat = 4.0
    """Exponent of 1 - target: larger values down-weight negatives near a peak more."""
    pos_weight: WeightOrOff = 1.0
    """Weight of the loss at positives, the peaks."""
    neg_weight: NonNegativeFloat = 1.0
    """Weight of the loss at negatives, everywhere else."""

    def build(self) -> GaussianFocalLoss:
        return GaussianFocalLoss(self.resolved())


class GaussianFocalLoss(ClassLoss):
    """`loss(pred, target)`: probabilities against a heat map of the same shape, whose peaks are 1."""

    def __init__(self, config: GaussianFocalLossConfig) -> None:
        super().__init__(config)
        self.alpha = config.alpha
        self.gamma = config.gamma
        self.pos_weight = config.pos_weight
        self.neg_weight = config.neg_weight

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        positive = self._positive(pred) * target.eq(1)
        return self.pos_weight * positive + self.neg_weight * self._negative(pred, target)

    def at_indices(
        self, pred: Tensor, target: Tensor, inds: Tensor, labels: Tensor, avg_factor: Tensor | float
    ) -> Tensor:
        """The loss with the positives at given indices, rather than where the heat map is 1.

        Args:
            pred: (N, K) probabilities.
            target: (N, K) heat map, which weights the negatives.
            inds: (P,) rows of the positives.
            labels: (P,) columns of the positives.
            avg_factor: What the sums are divided by.
        """
        positive = reduce_loss(self._positive(pred[inds, labels]), None, self.reduction, avg_factor)
        negative = reduce_loss(self._negative(pred, target), None, self.reduction, avg_factor)
        return self.loss_weight * (self.pos_weight * positive + self.neg_weight * negative)

    def _positive(self, pred: Tensor) -> Tensor:
        return -(pred + EPS).log() * (1 - pred).pow(self.alpha)

    def _negative(self, pred: Tensor, target: Tensor) -> Tensor:
        return -(1 - pred + EPS).log() * pred.pow(self.alpha) * (1 - target).pow(self.gamma)
