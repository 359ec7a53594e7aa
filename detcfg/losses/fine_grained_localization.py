"""Fine-grained localization loss of D-FINE. N distances, each predicted as a distribution over bins."""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.losses.base import Loss, LossConfig
from detcfg.precision import widened


@frozen(kw_only=True)
class FineGrainedLocalizationLossConfig(LossConfig):
    """FGL (Peng et al., 2024, https://arxiv.org/abs/2410.13842): the distribution to the two bins around its target.

    Bins are not uniform, so that the target says how much each of the two weighs. Follows
    `unimodal_distribution_focal_loss` in zoo/dfine/dfine_criterion.py of Peterande/D-FINE.
    """

    def build(self) -> Loss:
        return Loss(self.resolved(), fine_grained_localization_loss)


def fine_grained_localization_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Cross entropy to two neighbouring bins, weighted.

    Args:
        pred: (..., bins) logits.
        target: (..., 2): the left bin's index, and the weight of the right one in [0, 1].

    Returns:
        (...).
    """
    left, right_weight = target[..., :1].long(), target[..., 1]
    log: Tensor = widened(pred).log_softmax(dim=-1).expand(*left.shape[:-1], -1)
    to_left, to_right = (-log.gather(-1, index).squeeze(-1) for index in (left, left + 1))
    return to_left * (1 - right_weight) + to_right * right_weight
