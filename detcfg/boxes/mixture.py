"""Mixtures of two normal distributions over numbers, of several objects at once.

Shapes: N objects with up to M numbers each.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from attrs import frozen
from torch import Tensor

Covariance = Literal["full", "diag", "spherical", "tied"]

MAX_ITERATIONS: Final = 100
TOLERANCE: Final = 1e-3
"""An object's mixture has converged once its mean log-likelihood changes by less than this."""
LEAST_VARIANCE: Final = 1e-6
"""Added to each variance."""


@frozen(eq=False)
class Mixtures:
    """The fitted component of each number."""

    component: Tensor
    """(N, M) int64: 0 for the component of the lower start, 1 for the other."""
    log_likelihood: Tensor
    """(N, M)."""


def fit_mixtures(values: Tensor, valid: Tensor, covariance_type: Covariance = "diag") -> Mixtures:
    """Fit two components to each object's numbers by expectation and maximisation.

    They start at the least and the greatest number, with variance 1 and half of the weight each.
    Computed as scikit-learn's GaussianMixture does with these starts and its defaults.

    Args:
        values: (N, M) float.
        valid: (N, M) bool: which of them count; at least one of each object.
        covariance_type: Over numbers, "tied" is one variance for both components, the others are the same.
    """
    values, count = values.double().where(valid, 0.0), valid.sum(dim=1, keepdim=True)
    means = torch.stack(
        [values.where(valid, torch.inf).amin(dim=1), values.where(valid, -torch.inf).amax(dim=1)], dim=1
    )
    weights, variances = torch.full_like(means, 0.5), torch.ones_like(means)
    before = torch.full_like(means[:, :1], -torch.inf)
    moving = torch.ones_like(before, dtype=torch.bool)
    for _ in range(MAX_ITERATIONS):
        joint = _log_joint(values, weights, means, variances)
        total = joint.logsumexp(dim=1)
        bound = total.where(valid, 0.0).sum(dim=1, keepdim=True) / count
        share = (joint - total[:, None]).exp() * valid[:, None]
        mass = share.sum(dim=2) + 10 * torch.finfo(torch.float64).eps
        new_means = (share * values[:, None]).sum(dim=2) / mass
        spread = (share * (values[:, None] - new_means[..., None]).square()).sum(dim=2)
        if covariance_type == "tied":
            spread = (spread.sum(dim=1, keepdim=True) / mass.sum(dim=1, keepdim=True)).expand_as(mass)
        else:
            spread = spread / mass
        weights = (mass / mass.sum(dim=1, keepdim=True)).where(moving, weights)
        means = new_means.where(moving, means)
        variances = (spread + LEAST_VARIANCE).where(moving, variances)
        moving = moving & ((bound - before).abs() >= TOLERANCE)
        before = bound
        if not moving.any():
            break
    joint = _log_joint(values, weights, means, variances)
    return Mixtures(component=joint.argmax(dim=1), log_likelihood=joint.logsumexp(dim=1))


def _log_joint(values: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """(N, 2, M): the logarithm of each component's weight and density at each number."""
    distance = (values[:, None] - means[..., None]).square() / variances[..., None]
    constant = weights.log() - 0.5 * (math.log(2 * math.pi) + variances.log())
    return constant[..., None] - 0.5 * distance
