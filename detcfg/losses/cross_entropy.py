"""Cross-entropy of class scores. N predictions, C logits each."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.losses.base import ClassLoss, ClassLossConfig, Reduction, reduce_loss, shared_divisor
from detcfg.losses.reduce import are_shared

NO_LABEL = -100
"""A label that is never learnt, PyTorch's own."""


@frozen(kw_only=True)
class CrossEntropyLossConfig(ClassLossConfig):
    """Cross-entropy over classes, or of each class on its own.

    Follows mmdet/models/losses/cross_entropy_loss.py.
    """

    use_sigmoid: bool = False
    """Each logit is a decision of its own, and background has none."""
    use_mask: bool = False
    """Each logit is a cell of a mask, which is the target. It goes without `use_sigmoid`."""
    class_weight: tuple[float, ...] | None = None
    """Weight of each of the C classes; with `use_sigmoid`, of their positives."""
    ignore_index: int | None = None
    """Predictions with this label are not learnt."""
    avg_non_ignore: bool = False
    """Whether the mean is over the learnt predictions only."""

    def wired(self) -> Self:
        if self.use_sigmoid and self.use_mask:
            raise ConfigError("use_sigmoid and use_mask are both true. Leave one of them out.")
        return super().wired()

    def check_classes(self, channels: int, num_classes: int) -> None:
        weights = None if self.class_weight is None else len(self.class_weight)
        # One weight is that of every class, where each is a decision of its own.
        if weights is None or weights == channels or (weights == 1 and self.use_sigmoid):
            return
        classes = f"{num_classes} classes" + (" and the background" if channels > num_classes else "")
        raise ConfigError(
            f"class_weight has {weights} values; {classes} need {channels}. Give one for each, in the order of the labels"
            + (", the background's last." if channels > num_classes else ".")
        )

    def build(self) -> CrossEntropyLoss:
        return CrossEntropyLoss(self.resolved())


class CrossEntropyLoss(ClassLoss):
    """`loss(pred, target)`: (N, C) against labels (N,); with `use_sigmoid` C is background, or
    the target is (N, C) in [0, 1]; with `use_mask` both are (N, M, M)."""

    def __init__(self, config: CrossEntropyLossConfig) -> None:
        super().__init__(config)
        self.binary = config.use_sigmoid or config.use_mask
        self.class_weight = config.class_weight
        self.ignore_index = NO_LABEL if config.ignore_index is None else config.ignore_index
        self.avg_non_ignore = config.avg_non_ignore

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        reduction = reduction_override or self.reduction
        if target.numel() == 0 and reduction != "none":
            if are_shared() and reduction == "mean":
                shared_divisor(pred, avg_factor)  # the others ask for it
            return pred.sum() * 0  # keeps the graph, so that every worker has the same gradients
        class_weight = None if self.class_weight is None else pred.new_tensor(self.class_weight)
        if self.binary:
            loss, learnt = self._binary(pred, target, class_weight)
            learnt = learnt.expand_as(loss)
            weight = learnt if weight is None else learnt * _like(weight, loss)
        else:
            learnt = target != self.ignore_index
            loss = F.cross_entropy(
                pred, target, weight=class_weight, reduction="none", ignore_index=self.ignore_index
            )
        if avg_factor is None and self.avg_non_ignore and reduction == "mean":
            avg_factor = learnt.sum()
        weight = None if weight is None else weight.float()
        return self.loss_weight * reduce_loss(loss, weight, reduction, avg_factor)

    def _binary(self, pred: Tensor, target: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss of each logit, and which of them are learnt (broadcastable)."""
        learnt = (target >= 0) & (target != self.ignore_index)
        if target.dim() != pred.dim():
            classes = pred.shape[-1]
            target = F.one_hot(target.clamp(0, classes), classes + 1)[..., :classes]
            learnt = learnt.unsqueeze(-1)
        loss = F.binary_cross_entropy_with_logits(
            pred, target.to(pred.dtype), pos_weight=class_weight, reduction="none"
        )
        return loss, learnt


def _like(weight: Tensor, loss: Tensor) -> Tensor:
    """Weights of predictions (N,) spread over their logits."""
    return weight.reshape(weight.shape + (1,) * (loss.dim() - weight.dim()))


def accuracy(pred: Tensor, target: Tensor) -> Tensor:
    """The share of logits (N, C) that are highest at their label (N,), in percent."""
    if len(target) == 0:
        return pred.new_zeros(())
    return (pred.argmax(dim=-1) == target).float().mean() * 100
