"""Gradient harmonising: elements of frequent gradient norms are down-weighted."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat, PositiveInt, ProperFraction
from detcfg.losses.base import ClassLoss, ClassLossConfig, LossConfig, Reduction, reduce_loss
from detcfg.losses.focal import one_hot
from detcfg.losses.reduce import num_shares, reduce_sum, shared_factor


@frozen(kw_only=True)
class GHMCConfig(ClassLossConfig):
    """For classification (Li et al., 2018, https://arxiv.org/abs/1811.05181).

    Follows mmdet/models/losses/ghm_loss.py.
    """

    use_sigmoid: Literal[True] = True
    """Each class is an independent binary decision; there is no logit for background."""
    bins: PositiveInt = 10
    """Bins of the gradient norm, which is in [0, 1]."""
    momentum: ProperFraction = 0.0
    """Of the exponential moving average of the bins' counts, in [0, 1); 0: the batch's counts alone."""

    def build(self) -> GHMC:
        return GHMC(self.resolved())


@frozen(kw_only=True)
class GHMRConfig(LossConfig):
    """For regression (Li et al., 2018, https://arxiv.org/abs/1811.05181).

    Follows mmdet/models/losses/ghm_loss.py.
    """

    mu: PositiveFloat = 0.02
    """Of the loss sqrt(error^2 + mu^2) - mu: quadratic for errors well below it, linear well above."""
    bins: PositiveInt = 10
    """Bins of the gradient norm, which is in [0, 1]."""
    momentum: ProperFraction = 0.0
    """Of the exponential moving average of the bins' counts, in [0, 1); 0: the batch's counts alone."""

    def build(self) -> GHMR:
        return GHMR(self.resolved())


class _GradientHarmonizing(ClassLoss):
    """Weights each element by the inverse of the gradient density at its gradient norm."""

    by_level: ClassVar[bool] = True
    """The density is that of the elements of one call."""
    edges: Tensor
    """(bins + 1,): the bins' bounds."""
    acc_sum: Tensor
    """(bins,): the moving average of the counts; only with a momentum."""

    def __init__(self, config: GHMCConfig | GHMRConfig, last_edge: float) -> None:
        super().__init__(config)
        self.momentum = config.momentum
        edges = torch.arange(config.bins + 1).float() / config.bins
        edges[-1] = last_edge
        # Buffers, because MMDetection's checkpoints hold them.
        self.register_buffer("edges", edges)
        if self.momentum > 0:
            self.register_buffer("acc_sum", torch.zeros(config.bins))

    def harmonize(self, gradient: Tensor, valid: Tensor, total: Tensor) -> Tensor:
        """The weight of each element: `total` / (elements in its bin) / (bins in use).

        The elements of all processes count, and `total` is their mean.
        """
        bins = [
            (gradient >= low) & (gradient < high) & valid
            for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)
        ]
        counts = reduce_sum(torch.stack([inside.sum() for inside in bins]).to(self.edges))
        density = self._remember(counts) if self.momentum > 0 else counts
        weights = torch.zeros_like(gradient)
        for inside, share in zip(bins, total * num_shares() / density, strict=True):
            weights = torch.where(inside, share, weights)
        return weights / (counts > 0).sum().clamp(min=1)

    def _reduce(
        self, loss: Tensor, weights: Tensor, total: Tensor, reduction_override: Reduction | None
    ) -> Tensor:
        reduction = reduction_override or self.reduction
        avg_factor = total if reduction == "mean" else None
        return self.loss_weight * reduce_loss(loss, weights, reduction, avg_factor)

    def _remember(self, counts: Tensor) -> Tensor:
        mean = self.momentum * self.acc_sum + (1 - self.momentum) * counts
        density = torch.where(counts > 0, mean, self.acc_sum)
        if self.training:
            self.acc_sum.copy_(density)
        return density


class GHMC(_GradientHarmonizing):
    """`loss(pred, target, weight)`: logits (N, K) against labels (N,), of which K is background, or (N, K).

    `avg_factor` is not read: the loss is the mean over the elements whose weight is above 0.
    """

    def __init__(self, config: GHMCConfig) -> None:
        super().__init__(config, last_edge=1 + 1e-6)  # a gradient of 1 belongs to the last bin

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,  # noqa: ARG002 - as every loss is called
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        weight = pred.new_ones(len(pred)) if weight is None else weight
        if target.dim() < pred.dim():
            target = one_hot(target, pred.shape[-1])
        if weight.dim() < pred.dim():
            weight = weight[:, None].expand_as(pred)
        target, valid = target.type_as(pred), weight > 0
        total = shared_factor(valid.sum(), pred)
        gradient = (pred.detach().sigmoid() - target).abs()
        weights = self.harmonize(gradient, valid, total)
        loss = F.binary_cross_entropy_with_logits(pred, target, reduction="none")
        return self._reduce(loss, weights, total, reduction_override)


class GHMR(_GradientHarmonizing):
    """`loss(pred, target, weight)`, all (N, 4).

    `avg_factor` is not read: the loss is the mean over the sum of the weights.
    """

    def __init__(self, config: GHMRConfig) -> None:
        super().__init__(config, last_edge=1e3)
        self.mu = config.mu

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,  # noqa: ARG002 - as every loss is called
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        weight = torch.ones_like(pred) if weight is None else weight
        total = shared_factor(weight.sum(), pred)
        error = pred - target
        length = torch.sqrt(error * error + self.mu * self.mu)
        weights = self.harmonize((error / length).abs().detach(), weight > 0, total)
        return self._reduce(length - self.mu, weights, total, reduction_override)
