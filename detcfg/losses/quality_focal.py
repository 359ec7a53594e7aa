"""Quality focal loss. N predictions, K classes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import NonNegativeFloat
from detcfg.losses.base import ClassLoss, ClassLossConfig, Reduction


@frozen(kw_only=True)
class QualityFocalLossConfig(ClassLossConfig):
    """Focal loss towards a quality in [0, 1] (Li et al., 2020, https://arxiv.org/abs/2006.04388).

    Follows mmdet/models/losses/gfocal_loss.py.
    """

    use_sigmoid: Literal[True] = True
    """Each class is an independent binary decision; there is no logit for background."""
    beta: NonNegativeFloat = 2.0
    """Focusing parameter: larger values down-weight predictions near their target more."""
    activated: bool = False
    """Whether predictions are probabilities; else logits."""

    def build(self) -> QualityFocalLoss:
        return QualityFocalLoss(self.resolved())


class QualityFocalLoss(ClassLoss):
    """`loss(pred, target)`: (N, K) against qualities (N, K), or against (labels, qualities), both (N,)."""

    def __init__(self, config: QualityFocalLossConfig) -> None:
        super().__init__(config)
        self.beta = config.beta
        self.activated = config.activated

    def forward(
        self,
        pred: Tensor,
        target: Tensor | tuple[Tensor, Tensor],
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        if isinstance(target, tuple):
            labels, qualities = target
            target = quality_target(labels, qualities, pred.shape[-1])
        return super().forward(pred, target, weight, avg_factor, reduction_override)

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return quality_focal_loss(pred, target, beta=self.beta, activated=self.activated)


def quality_target(labels: Tensor, qualities: Tensor, num_classes: int) -> Tensor:
    """(N, num_classes): the quality at the label, 0 elsewhere and for the label `num_classes`."""
    target = qualities.new_zeros(len(labels), num_classes + 1)
    return target.scatter(1, labels[:, None], qualities[:, None])[:, :num_classes]


def quality_focal_loss(pred: Tensor, target: Tensor, *, beta: float, activated: bool) -> Tensor:
    """|y - p|^beta * BCE(p, y), summed over the classes.

    Args:
        pred: (N, K) logits, or probabilities if `activated`.
        target: (N, K), y in [0, 1]; 0 is a negative.
        beta: The exponent.
        activated: What `pred` is.
    """
    probability = pred if activated else pred.sigmoid()
    entropy = F.binary_cross_entropy if activated else F.binary_cross_entropy_with_logits
    target = target.type_as(pred)
    loss = entropy(pred, target, reduction="none") * (target - probability).abs().pow(beta)
    return loss.sum(1)
