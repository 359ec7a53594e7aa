"""Prime sample attention: important positives get larger weights (mmdet/models/losses/pisa_loss.py).

Shapes: P positives of a batch, K classes.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.rank import rank_within
from detcfg.config import Config
from detcfg.config.ranges import Fraction, NonNegativeFloat, PositiveFloat
from detcfg.losses.reduce import shared_factor


@frozen(kw_only=True)
class ISRConfig(Config):
    """Importance-based sample reweighting (Cao et al., 2019, https://arxiv.org/abs/1904.04821)."""

    k: PositiveFloat = 2.0
    """Exponent of the weights."""
    bias: Fraction = 0.0
    """The weight of a sample of importance 0, before the power; in [0, 1]."""

    def weights(
        self, losses: Tensor, ious: Tensor, labels: Tensor, objects: Tensor, weights: Tensor
    ) -> Tensor:
        """The weights (P,) of positives, scaled to keep the total classification loss.

        Those that localise an object best rank before the second best of each object, and so on, and
        within a class the weight falls with the rank.

        Args:
            losses: (P,) classification losses.
            ious: (P,) overlaps of the predicted boxes with their objects.
            labels: (P,).
            objects: (P,) int, the object of each positive, counted over the batch.
            weights: (P,) by which losses are weighted so far.
        """
        if len(labels) == 0:
            return weights
        most = torch.bincount(labels).amax()
        rank = rank_within(ious + (most - rank_within(ious, objects)), labels)
        importance = weights * ((most - rank) / most)
        importance = (self.bias + (1 - self.bias) * importance).pow(self.k)
        return importance * ((losses * weights).sum() / (losses * importance).sum())


@frozen(kw_only=True)
class CARLConfig(Config):
    """Classification-aware regression loss: box losses weighted by class scores, so that inaccurate boxes get
    lower scores."""

    k: NonNegativeFloat = 1.0
    """Exponent of the weights."""
    bias: Fraction = 0.2
    """The weight of a score of 0, before the power; in [0, 1]."""

    def loss(self, scores: Tensor, box_losses: Tensor, avg_factor: Tensor | float) -> Tensor:
        """The scalar loss.

        Args:
            scores: (P,) probability of each positive's label; the gradient goes through it.
            box_losses: (P,) or (P, 4).
            avg_factor: What the sum is divided by; its mean, where several processes train together.
        """
        divisor = shared_factor(avg_factor, scores, least=0.0)
        if len(scores) == 0:
            return scores.sum() + box_losses.sum()
        weights = (self.bias + (1 - self.bias) * scores).pow(self.k)
        weights = weights * (len(scores) / weights.sum())
        return (box_losses.reshape(len(scores), -1).sum(dim=1) * weights).sum() / divisor
