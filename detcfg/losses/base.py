"""The contract of losses: element-wise values, weighted, then reduced.

Shapes: N predictions; the element-wise loss of a prediction (N, ...) has the prediction's shape or (N,).

A new loss is a function, and a config that builds `Loss` with it:

    >>> from attrs import frozen
    >>> import torch
    >>> from detcfg.losses.base import Loss, LossConfig
    >>> def log_cosh(pred, target):
    ...     return (pred - target).cosh().log()
    >>> @frozen(kw_only=True)
    ... class LogCoshLossConfig(LossConfig):
    ...     def build(self):
    ...         return Loss(self.resolved(), log_cosh)
    >>> loss = LogCoshLossConfig(loss_weight=2.0).build()
    >>> loss(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))  # 2 * (0 + ln cosh 1) / 2 elements
    tensor(0.4338)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig
from detcfg.config.ranges import NonNegativeFloat
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

    Four anchors of which two are positive (weight 1) are averaged over the positives:

        >>> loss, weight = torch.tensor([3.0, 5.0, 7.0, 9.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])
        >>> reduce_loss(loss, weight, avg_factor=2)
        tensor(4.)
        >>> reduce_loss(loss, weight, "sum")
        tensor(8.)

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
        avg_factor = shared_factor(loss.numel() if avg_factor is None else avg_factor, loss, least=0.0)
    if avg_factor is None:
        return loss.mean()
    # The same guard as MMDetection's: no positive sample must not divide by zero.
    return loss.sum() / (avg_factor + torch.finfo(torch.float32).eps)


def empty_loss(pred: Tensor, reduction: Reduction, avg_factor: Tensor | float | None = None) -> Tensor:
    """The loss of a process that has no elements: 0, as a function of `pred`.

    It guards distributed training against two deadlocks. `reduce_loss` averages the divisor over the processes,
    a collective operation for which the others wait until this process takes part. And DDP waits for the gradient
    of each parameter, so that the 0 has to depend on `pred`.

    Args:
        pred: The predictions, of any shape.
        reduction: "mean" or "sum".
        avg_factor: As `reduce_loss` would be given it.
    """
    if are_shared() and reduction == "mean":
        shared_factor(0 if avg_factor is None else avg_factor, pred, least=0.0)
    return pred.sum() * 0


@frozen(kw_only=True)
class LossConfig(ModuleConfig):
    """A config that builds a `Loss`."""

    reduction: Reduction = "mean"
    """How element-wise losses are reduced: "mean", "sum", or "none" to keep them."""
    loss_weight: NonNegativeFloat = 1.0
    """Factor of the reduced loss."""

    @abstractmethod
    def build(self) -> Loss: ...


@frozen(kw_only=True)
class ClassLossConfig(LossConfig):
    """A config that builds a loss of class logits (N, C)."""

    use_sigmoid: bool = False
    """Sigmoid: each class is an independent binary decision, without a logit for background. Else softmax over
    the classes and background."""

    def cls_channels(self, num_classes: int) -> int:
        """C, the logits of a dense head for each prior."""
        return num_classes if self.use_sigmoid else num_classes + 1

    def roi_cls_channels(self, num_classes: int) -> int:
        """C, the logits of a RoI head for each proposal, background among them."""
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
        """This config for `num_classes` foreground classes."""
        del num_classes
        return self

    @abstractmethod
    def build(self) -> ClassLoss: ...


class Loss(nn.Module):
    """`loss(pred, target, weight=None, avg_factor=None, reduction_override=None)`, a scalar by default.

    Args:
        config: Its reduction and weight.
        function: `(pred, target) -> element-wise loss`; a subclass may override `elementwise` instead.
    """

    by_level: ClassVar[bool] = False
    """Whether an element's loss depends on the other elements of the call; heads then call it once a level."""

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
            raise NotImplementedError(
                f"{type(self).__name__} needs a function, or an override of elementwise()."
            )
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
            return empty_loss(pred, reduction, avg_factor)
        loss = self.elementwise(pred, target)
        if weight is not None and weight.dim() > loss.dim():  # (N, 4) weights of a loss per box
            weight = weight.mean(-1)
        if weight is not None and weight.dim() < loss.dim():  # (N,) weights of a loss per class
            weight = weight.reshape(weight.shape + (1,) * (loss.dim() - weight.dim()))
        return self.loss_weight * reduce_loss(loss, weight, reduction, avg_factor)


class ClassLoss(Loss):
    """A loss of class logits (N, C) against labels (N,)."""

    def __init__(
        self, config: LossConfig, function: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(config, function)
        self.use_sigmoid = isinstance(config, ClassLossConfig) and config.use_sigmoid

    def named(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Reduction | None = None,
    ) -> dict[str, Tensor]:
        """The loss as `loss_cls`; a loss of several terms gives each under its name."""
        return {"loss_cls": self(pred, target, weight, avg_factor, reduction_override)}

    def scores(self, logits: Tensor) -> Tensor:
        """The logits (R, C) of a RoI head to probabilities (R, K + 1), background last."""
        return logits.softmax(dim=-1)

    def dense_probabilities(self, cls_score: Tensor) -> Tensor:
        """The logits (..., C) of a dense head to the probabilities (..., K) of the classes.

        Sigmoids, or a softmax whose last column, that of background, is left out.
        """
        return cls_score.sigmoid() if self.use_sigmoid else cls_score.softmax(dim=-1)[..., :-1]

    def roi_probabilities(self, cls_score: Tensor) -> Tensor:
        """The logits (R, C) of a RoI head to probabilities, of which the first K columns are the classes'.

        RoI heads have a logit for background, so this is a softmax even where training uses a sigmoid.
        """
        return cls_score.softmax(dim=-1)
