"""Cross-entropy for many classes. R regions, K classes; logits (R, K), or (R, K + 1)."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from detcfg.losses.cross_entropy import CrossEntropyLoss, CrossEntropyLossConfig


@frozen(kw_only=True)
class CrossEntropyCustomLossConfig(CrossEntropyLossConfig):
    """Cross-entropy of V3Det (Wang et al., 2023, https://arxiv.org/abs/2304.03752).

    With `use_sigmoid` a RoI head has no logit for background: its probability is 1 minus the sum of the
    classes'. Follows mmdet/models/losses/cross_entropy_loss.py.
    """

    def roi_cls_channels(self, num_classes: int) -> int:
        return self.cls_channels(num_classes)

    def build(self) -> CrossEntropyCustomLoss:
        return CrossEntropyCustomLoss(self.resolved())


class CrossEntropyCustomLoss(CrossEntropyLoss):
    """As `CrossEntropyLoss`; with `use_sigmoid` scores are made of sigmoids."""

    def __init__(self, config: CrossEntropyCustomLossConfig) -> None:
        super().__init__(config)
        self.use_sigmoid = config.use_sigmoid

    def scores(self, logits: Tensor) -> Tensor:
        if not self.use_sigmoid:
            return super().scores(logits)
        classes = logits.sigmoid()
        background = (1 - classes.sum(dim=-1, keepdim=True)).clamp(0, 1)
        return torch.cat([classes, background], dim=-1)

    def roi_probabilities(self, cls_score: Tensor) -> Tensor:
        return self.scores(cls_score)
