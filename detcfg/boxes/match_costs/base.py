"""What every match cost is.

Shapes: S sets of predictions (such as layers), B images, Q queries, N objects of an image (padded), K classes. Boxes
are (cx, cy, w, h) in shares of the image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from attrs import frozen
from torch import Tensor

from detcfg.config import Config
from detcfg.config.ranges import NonNegativeFloat


@frozen(kw_only=True)
class MatchCostConfig(Config, ABC):
    """The base of match costs (mmdet/models/task_modules/assigners/match_cost.py)."""

    weight: NonNegativeFloat = 1.0
    """The cost is multiplied by it."""

    @abstractmethod
    def cost(self, logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """The cost of each pair, not yet weighted.

        Args:
            logits: (S, B, Q, K).
            boxes: (S, B, Q, 4).
            labels: (B, N) int64.
            targets: (B, N, 4), the ground-truth boxes.

        Returns:
            (S, B, Q, N).
        """
