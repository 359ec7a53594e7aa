"""Cross-entropy of class scores. N predictions, C logits each."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.config.ranges import NonEmpty, NonNegativeFloat
from detcfg.losses.base import ClassLoss, ClassLossConfig, Reduction, empty_loss, reduce_loss

NO_LABEL = -100
"""The label that PyTorch ignores by default."""


@frozen(kw_only=True)
class CrossEntropyLossConfig(ClassLossConfig):
    """Cross-entropy over classes (softmax), or binary cross-entropy of each class (sigmoid).

    Follows mmdet/models/losses/cross_entropy_loss.py.
    """

    use_sigmoid: bool = False
    """Binary cross-entropy of each class, without a logit for background; else softmax cross-entropy."""
    use_mask: bool = False
    """Binary cross-entropy of each pixel of a mask. Not together with `use_sigmoid`."""
    class_weight: NonEmpty[NonNegativeFloat] | None = None
    """Weight of each of the C classes, with `use_sigmoid` of their positives; None: 1."""
    ignore_index: int | None = None
    """Predictions with this label have no loss; None: -100, PyTorch's."""
    avg_non_ignore: bool = False
    """Whether the mean is over the predictions that are not ignored; else over all."""

    def wired(self) -> Self:
        if self.use_sigmoid and self.use_mask:
            raise ConfigError("use_sigmoid and use_mask are both true. Leave one of them out.")
        if self.use_mask and self.class_weight is not None and len(self.class_weight) > 1:
            raise ConfigError(
                f"class_weight has {len(self.class_weight)} values, and with use_mask a pixel is one decision, whatever "
                "the class of its mask. Give one weight, or none."
            )
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
            return empty_loss(pred, reduction, avg_factor)
        class_weight = None if self.class_weight is None else pred.new_tensor(self.class_weight)
        if self.binary:
            loss, valid = self._binary(pred, target, class_weight)
            valid = valid.expand_as(loss)
            weight = valid if weight is None else valid * _like(weight, loss)
        else:
            valid = target != self.ignore_index
            loss = F.cross_entropy(
                pred, target, weight=class_weight, reduction="none", ignore_index=self.ignore_index
            )
        if avg_factor is None and self.avg_non_ignore and reduction == "mean":
            avg_factor = valid.sum()
        weight = None if weight is None else weight.float()
        return self.loss_weight * reduce_loss(loss, weight, reduction, avg_factor)

    def _binary(self, pred: Tensor, target: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss of each logit, and which of them are not ignored (broadcastable)."""
        valid = (target >= 0) & (target != self.ignore_index)
        if target.dim() != pred.dim():
            classes = pred.shape[-1]
            target = F.one_hot(target.clamp(0, classes), classes + 1)[..., :classes]
            valid = valid.unsqueeze(-1)
        loss = F.binary_cross_entropy_with_logits(
            pred, target.to(pred.dtype), pos_weight=class_weight, reduction="none"
        )
        return loss, valid


def _like(weight: Tensor, loss: Tensor) -> Tensor:
    """Weights of predictions (N,) spread over their logits."""
    return weight.reshape(weight.shape + (1,) * (loss.dim() - weight.dim()))


def accuracy(pred: Tensor, target: Tensor) -> Tensor:
    """The share of logits (N, C) that are highest at their label (N,), in percent."""
    if len(target) == 0:
        return pred.new_zeros(())
    return (pred.argmax(dim=-1) == target).float().mean() * 100
