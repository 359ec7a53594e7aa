"""What every loss is: element-wise values, weighted, then reduced.

Shapes: the loss of a prediction (N, ...) has the shape of the prediction or (N,).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig
from detcfg.losses.reduce import are_shared, shared_factor

Reduction = Literal["none", "mean", "sum"]


def reduce_loss(
    loss: Tensor,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    avg_factor: Tensor | float | None = None,
) -> Tensor:
    """Weight an element-wise loss and reduce it.

    In a distributed run the divisor is its mean over the processes. So the mean of their gradients is the
    gradient of one process that has all the images, however the objects are spread.

    Args:
        loss: (N, ...).
        weight: Of the shape of `loss`, or None.
        reduction: "none", "mean" or "sum".
        avg_factor: With "mean", divide the sum by this rather than by the number of elements.

    Raises:
        ValueError: `avg_factor` with "sum", which has no mean to replace.

    Follows `weight_reduce_loss` in mmdet/models/losses/utils.py.
    """
    if weight is not None:
        loss = loss * weight
    if reduction == "none":
        return loss
    if reduction == "sum":
        if avg_factor is not None:
            raise ValueError('avg_factor does not go with reduction="sum".')
        return loss.sum()
    if are_shared():
        avg_factor = shared_divisor(loss, avg_factor)
    if avg_factor is None:
        return loss.mean()
    # The same guard as MMDetection's: no positive sample must not divide by zero.
    return loss.sum() / (avg_factor + torch.finfo(torch.float32).eps)


def shared_divisor(loss: Tensor, avg_factor: Tensor | float | None) -> Tensor:
    """What a sum is divided by for its mean over the elements of all processes.

    All of them must ask for it, those whose share is empty as well.
    """
    return shared_factor(loss.numel() if avg_factor is None else avg_factor, loss, least=0.0)


@frozen(kw_only=True)
class LossConfig(ModuleConfig):
    """A config that builds a `Loss`."""

    reduction: Reduction = "mean"
    """How the values of the elements become one."""
    loss_weight: float = 1.0
    """The reduced loss is multiplied by it."""

    @abstractmethod
    def build(self) -> Loss: ...


@frozen(kw_only=True)
class ClassLossConfig(LossConfig):
    """A config that builds a loss of class logits (N, C)."""

    use_sigmoid: bool = False
    """Whether each logit is a decision of its own and background has none."""

    def cls_channels(self, num_classes: int) -> int:
        """C: the logits of a dense head."""
        return num_classes if self.use_sigmoid else num_classes + 1

    def roi_cls_channels(self, num_classes: int) -> int:
        """C: the logits of a RoI head, which has background in any case."""
        return num_classes + 1

    def check_classes(self, channels: int, num_classes: int) -> None:
        """Refuse values of the loss that do not go with its classes.

        Args:
            channels: C, the logits.
            num_classes: Classes of the data, without background.

        Raises:
            ConfigError: There are weights of other classes, say.
        """

    def for_classes(self, num_classes: int) -> Self:
        """This config for so many classes, background aside."""
        del num_classes
        return self

    @abstractmethod
    def build(self) -> ClassLoss: ...


class Loss(nn.Module):
    """`loss(pred, target, weight=None, avg_factor=None, reduction_override=None)`.

    A new loss is a function `(pred, target) -> element-wise loss` and a config that builds
    `Loss(self.resolved(), function)`.
    """

    by_level: ClassVar[bool] = False
    """Whether an element's loss depends on the others of the call, so that heads make one a level."""

    def __init__(
        self, config: LossConfig, function: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.reduction: Reduction = config.reduction
        self.loss_weight = config.loss_weight
        self._function = function

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each element, neither weighted nor reduced."""
        if self._function is None:
            raise NotImplementedError(f"{type(self).__name__} needs a function or its own elementwise().")
        return self._function(pred, target)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        reduction = reduction_override or self.reduction
        if target.numel() == 0 and pred.numel() == 0 and reduction != "none":
            if are_shared() and reduction == "mean":
                shared_divisor(pred, avg_factor)  # the others ask for it
            return pred.sum() * 0  # keeps the graph, so that every worker has the same gradients
        loss = self.elementwise(pred, target)
        if weight is not None and weight.dim() > loss.dim():  # (N, 4) weights of a loss per box
            weight = weight.mean(-1)
        if weight is not None and weight.dim() < loss.dim():  # (N,) weights of a loss per class
            weight = weight.reshape(weight.shape + (1,) * (loss.dim() - weight.dim()))
        return self.loss_weight * reduce_loss(loss, weight, reduction, avg_factor)


class ClassLoss(Loss):
    """A loss of class logits (N, C) against labels (N,)."""

    def named(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> dict[str, Tensor]:
        """The loss under its name; a loss of several parts gives each."""
        return {"loss_cls": self(pred, target, weight, avg_factor, reduction_override)}

    def scores(self, logits: Tensor) -> Tensor:
        """The logits (R, C) of a RoI head to probabilities (R, K + 1), background last."""
        return logits.softmax(dim=-1)

    def roi_probabilities(self, cls_score: Tensor) -> Tensor:
        """What the logits (R, C) of a RoI head say: the first columns are the classes' probabilities.

        RoI heads have background among their logits, so this is a softmax whatever trains them.
        """
        return cls_score.softmax(dim=-1)
