"""SCYLLA IoU loss. N pairs of boxes (x1, y1, x2, y2)."""

from __future__ import annotations

import math
from functools import partial

import torch
from attrs import frozen
from torch import Tensor

from detcfg.config.ranges import PositiveFloat
from detcfg.losses.base import Loss, LossConfig
from detcfg.losses.diou import aligned_iou, enclosing_size


@frozen(kw_only=True)
class SIoULossConfig(LossConfig):
    """IoU less the cost of direction, distance and shape (Gevorgyan, 2022, https://arxiv.org/abs/2205.12740).

    Follows mmdet/models/losses/iou_loss.py.
    """

    eps: PositiveFloat = 1e-6
    """Added to denominators."""
    neg_gamma: bool = False
    """Take the exponent of the distance cost with the sign of the paper."""

    def build(self) -> Loss:
        config = self.resolved()
        return Loss(config, partial(siou_loss, eps=config.eps, neg_gamma=config.neg_gamma))


def siou_loss(pred: Tensor, target: Tensor, *, eps: float = 1e-6, neg_gamma: bool = False) -> Tensor:
    """1 - IoU + (distance cost + shape cost) / 2, (N,) in [0, 2]."""
    iou = aligned_iou(pred, target, eps)
    distance = _distance_cost(pred, target, eps, neg_gamma=neg_gamma)
    return 1 - (iou - 0.5 * (distance + _shape_cost(pred, target, eps))).clamp(-1, 1)


def _distance_cost(pred: Tensor, target: Tensor, eps: float, *, neg_gamma: bool) -> Tensor:
    shift = ((target[:, :2] + target[:, 2:]) - (pred[:, :2] + pred[:, 2:])) * 0.5 + eps
    sines = shift.abs() / shift.square().sum(dim=1, keepdim=True).sqrt()
    # The angle to the nearer axis: at most 45 degrees.
    sine = torch.where(sines[:, 0] > math.sqrt(2) / 2, sines[:, 1], sines[:, 0])
    angle_cost = torch.cos(torch.asin(sine) * 2 - math.pi / 2)
    gamma = angle_cost - 2 if neg_gamma else 2 - angle_cost
    ratio = (shift / enclosing_size(pred, target).clamp(min=eps)).square()
    return 2 - torch.exp(gamma[:, None] * ratio).sum(dim=1)


def _shape_cost(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    # As in MMDetection, only heights get the eps.
    guard = pred.new_tensor([0, eps])
    size, target_size = pred[:, 2:] - pred[:, :2] + guard, target[:, 2:] - target[:, :2] + guard
    difference = (size - target_size).abs() / torch.max(size, target_size)
    return (1 - torch.exp(-difference)).pow(4).sum(dim=1)
