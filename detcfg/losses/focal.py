"""Focal loss. N predictions, K classes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import Fraction, NonNegativeFloat
from detcfg.losses.base import ClassLoss, ClassLossConfig


@frozen(kw_only=True)
class FocalLossConfig(ClassLossConfig):
    """Focal loss (Lin et al., 2017, https://arxiv.org/abs/1708.02002).

    Follows mmdet/models/losses/focal_loss.py.
    """

    use_sigmoid: Literal[True] = True
    """Each class is an independent binary decision; there is no logit for background."""
    gamma: NonNegativeFloat = 2.0
    """Focusing parameter: larger values down-weight easy examples more."""
    alpha: Fraction = 0.25
    """Weight of the positives; negatives weigh 1 - alpha."""
    activated: bool = False
    """Whether predictions are probabilities; else logits."""

    def build(self) -> FocalLoss:
        return FocalLoss(self.resolved())


class FocalLoss(ClassLoss):
    """`loss(pred, target)`: (N, K) against labels (N,), of which K is background, or (N, K) in [0, 1]."""

    def __init__(self, config: FocalLossConfig) -> None:
        super().__init__(config)
        self.gamma = config.gamma
        self.alpha = config.alpha
        self.activated = config.activated

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        if target.dim() < pred.dim():
            target = one_hot(target, pred.shape[-1])
        target = target.type_as(pred)
        return focal_loss(pred, target, gamma=self.gamma, alpha=self.alpha, activated=self.activated)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(N,) labels, of which `num_classes` is background, to (N, num_classes) zeros and ones."""
    return F.one_hot(labels, num_classes + 1)[..., :num_classes]


def focal_loss(pred: Tensor, target: Tensor, *, gamma: float, alpha: float, activated: bool) -> Tensor:
    """-a * (1 - p_t)^gamma * log(p_t), where p_t is the predicted probability of the target.

    Args:
        pred: (N, K) logits, or probabilities if `activated`.
        target: (N, K) float in [0, 1].
        gamma: The exponent of 1 - p_t.
        alpha: a of a positive; 1 - alpha is that of a negative.
        activated: What `pred` is.
    """
    probability = pred if activated else pred.sigmoid()
    missing = (1 - probability) * target + probability * (1 - target)
    balance = alpha * target + (1 - alpha) * (1 - target)
    entropy = F.binary_cross_entropy if activated else F.binary_cross_entropy_with_logits
    return entropy(pred, target, reduction="none") * (balance * missing.pow(gamma))
