"""What DEIM's predictions cost: D-FINE's losses, but for that of the classes."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from detcfg.heads.query.dfine_criterion import DFINECriterionConfig
from detcfg.losses.base import ClassLossConfig
from detcfg.losses.matchability_aware import MatchabilityAwareLossConfig


@frozen(kw_only=True)
class DEIMCriterionConfig(DFINECriterionConfig):
    """DEIM's losses (Huang et al., 2024, https://arxiv.org/abs/2412.04234): matchability-aware where D-FINE has varifocal loss.

    It comes back as `loss_mal`. Matching, its union and all other losses are D-FINE's, and do not change during training.
    """

    class_name: ClassVar[str] = "loss_mal"
    """The name of the loss of the class scores."""

    loss_vfl: ClassLossConfig = MatchabilityAwareLossConfig()
    """The loss of the class scores: logits (..., K) against the IoU of matches (..., K), -1 for negatives."""
