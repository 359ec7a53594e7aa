"""Distribution focal loss. N distances, each predicted as a distribution over bins."""

from __future__ import annotations

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.losses.base import Loss, LossConfig


@frozen(kw_only=True)
class DistributionFocalLossConfig(LossConfig):
    """Pulls a distribution to the two bins around its target (Li et al., 2020, https://arxiv.org/abs/2006.04388).

    Follows mmdet/models/losses/gfocal_loss.py.
    """

    def build(self) -> Loss:
        return Loss(self.resolved(), distribution_focal_loss)


def distribution_focal_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Cross entropy to the bins left and right of the target, each weighted by the nearness of the target.

    Args:
        pred: (N, bins) logits.
        target: (N,) in [0, bins - 1).
    """
    left = target.long()
    to_left = target - left
    loss_left = F.cross_entropy(pred, left, reduction="none")
    loss_right = F.cross_entropy(pred, left + 1, reduction="none")
    return loss_left * (1 - to_left) + loss_right * to_left
