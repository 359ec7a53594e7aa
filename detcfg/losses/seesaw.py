"""Seesaw loss for data of which some classes are rare (mmdet/models/losses/seesaw_loss.py).

Shapes: N predictions, K classes; logits (N, K + 2) = classes, then object and background. P of the
predictions are objects.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config import ConfigError, derived, fill
from detcfg.config.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from detcfg.losses.base import ClassLoss, ClassLossConfig, Reduction, empty_loss, reduce_loss
from detcfg.losses.reduce import reduce_sum


@frozen(kw_only=True)
class SeesawLossConfig(ClassLossConfig):
    """Cross-entropy for long-tailed data (Wang et al., 2020, https://arxiv.org/abs/2008.10032).

    It is for RoI heads: objectness is classified apart from the class.
    """

    p: NonNegativeFloat = 0.8
    """Exponent of the mitigation factor: a rare class is penalised less for samples of frequent ones; 0: no less."""
    q: NonNegativeFloat = 2.0
    """Exponent of the compensation factor: a misclassified class is penalised more; 0: no more."""
    num_classes: PositiveInt = derived()
    """K, foreground classes."""
    eps: PositiveFloat = 1e-2
    """The ground-truth class's probability is at least this where it is a divisor."""
    return_dict: bool = True
    """Whether objectness and classification losses are reported apart."""

    def wired(self) -> Self:
        if self.use_sigmoid:
            raise ConfigError(
                "use_sigmoid is True, but the seesaw loss is a softmax over the classes. Leave it out."
            )
        return self

    def for_classes(self, num_classes: int) -> Self:
        return fill(self, "num_classes", num_classes=num_classes)

    def roi_cls_channels(self, num_classes: int) -> int:
        return num_classes + 2

    def build(self) -> SeesawLoss:
        return SeesawLoss(self.resolved())


class SeesawLoss(ClassLoss):
    """Counts the training samples of each class, in the state dict too."""

    cum_samples: Tensor
    """(K + 1,) samples of each class so far, background last."""

    def __init__(self, config: SeesawLossConfig) -> None:
        super().__init__(config)
        self.p, self.q, self.eps = config.p, config.q, config.eps
        self.num_classes = config.num_classes
        self.return_dict = config.return_dict
        self.register_buffer("cum_samples", torch.zeros(config.num_classes + 1))

    def named(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> dict[str, Tensor]:
        reduction = reduction_override or self.reduction
        objectness, classes = self._parts(pred, target, weight, avg_factor, reduction)
        if not self.return_dict:
            return {"loss_cls": objectness + classes}
        return {"loss_cls_objectness": objectness, "loss_cls_classes": classes}

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        objectness, classes = self._parts(
            pred, target, weight, avg_factor, reduction_override or self.reduction
        )
        return objectness + classes

    def _parts(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None,
        avg_factor: Tensor | float | None,
        reduction: Reduction,
    ) -> tuple[Tensor, Tensor]:
        """The losses of objectness and of the class, each (N,) if they are not reduced."""
        if self.training and torch.is_grad_enabled():
            counts = torch.bincount(target, minlength=self.num_classes + 1).float()
            self.cum_samples += reduce_sum(counts)  # of all processes
        positive = target < self.num_classes
        weight = torch.ones_like(pred[:, 0]) if weight is None else weight.float()
        binary = F.cross_entropy(pred[:, -2:], (~positive).long(), reduction="none")
        classes = self._class_losses(pred[positive, :-2], target[positive])
        empty = len(pred) == 0 and reduction != "none"
        objectness = (
            empty_loss(pred[:, -2:], reduction, avg_factor)
            if empty
            else reduce_loss(binary, weight, reduction, avg_factor)
        )
        if reduction == "none":
            spread = torch.zeros_like(binary).masked_scatter(positive, classes * weight[positive])
            return self.loss_weight * objectness, self.loss_weight * spread
        if len(classes) == 0:
            return self.loss_weight * objectness, empty_loss(pred[:, :-2], reduction, avg_factor)
        reduced = reduce_loss(classes, weight[positive], reduction, avg_factor)
        return self.loss_weight * objectness, self.loss_weight * reduced

    def _class_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(P,): cross-entropy of logits (P, K), whose other classes are weighted by `seesaw_weights`."""
        ground_truth = F.one_hot(labels, self.num_classes).bool()
        return F.cross_entropy(
            logits + self.seesaw_weights(logits.detach(), labels).log().masked_fill(ground_truth, 0),
            labels,
            reduction="none",
        )

    def seesaw_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(P, K): how much each class is penalised by samples of the classes labels (P,)."""
        weights = torch.ones_like(logits)
        if self.p > 0:
            seen = self.cum_samples[:-1].clamp(min=1)
            weights = weights * (seen / seen[labels][:, None]).clamp(max=1).pow(self.p)
        if self.q > 0:
            chances = logits.softmax(dim=1)
            right = chances.gather(1, labels[:, None]).clamp(min=self.eps)
            weights = weights * (chances / right).clamp(min=1).pow(self.q)
        return weights

    def scores(self, logits: Tensor) -> Tensor:
        classes, objectness = logits[..., :-2].softmax(dim=-1), logits[..., -2:].softmax(dim=-1)
        return torch.cat([classes * objectness[..., :1], objectness[..., 1:]], dim=-1)

    def roi_probabilities(self, cls_score: Tensor) -> Tensor:
        return self.scores(cls_score)
