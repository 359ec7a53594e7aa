"""The contract of losses. N elements, such as boxes, priors or masks."""

from __future__ import annotations

from typing import Final

import torch
from attrs import evolve
from torch import Tensor

from detcfg.losses.base import ClassLossConfig, Loss, LossConfig
from detcfg.testing.expect import boxes_at_random, expect, expect_tensor

ELEMENTS: Final = 12
CLASSES: Final = 3
HALVES: Final = (torch.bfloat16, torch.float16)


def check_loss(config: LossConfig, inputs: tuple[Tensor, Tensor] | None = None) -> None:
    """In evaluation mode, where a loss that remembers its calls gives the same again."""
    pred, target = inputs or _inputs(config)
    pred = pred.detach()
    loss = config.build().eval()
    count = len(pred)
    each = loss(pred, target, reduction_override="none")
    expect_tensor(config, 'with reduction "none" the loss', each, (count, *each.shape[1:]), torch.float32)
    finite = bool(each.isfinite().all())
    expect(config, "the loss has to be finite", holds=finite)
    _check_reductions(config, loss, pred, target, each)

    doubled = evolve(config, loss_weight=2 * config.loss_weight).build().eval()
    twice = doubled(pred, target, reduction_override="none")
    expect(config, "loss_weight has to multiply the loss", holds=_close(twice, 2 * each))

    order = torch.randperm(count)
    again = loss(pred[order], target[order], reduction_override="none")
    expect(config, "elements in another order have to keep their losses", holds=_close(again, each[order]))

    gradient = _gradient(config, loss, pred, target)
    expect(config, "the gradient has to be finite", holds=bool(gradient.isfinite().all()))
    expect(config, "the prediction has to get a gradient that is not zero", holds=bool(gradient.any()))
    gradient = _gradient(config, loss, pred, target, weight=torch.zeros_like(each))
    expect(config, "elements of weight 0 have to have a gradient of zero", holds=not gradient.any())
    for dtype in HALVES:
        gradient = _gradient(config, loss, pred.to(dtype), target)
        expect(config, f"the gradient has to be finite in {dtype}", holds=bool(gradient.isfinite().all()))

    empty = pred[:0].clone().requires_grad_()
    for factor in (None, 1.0):
        value = loss(empty, target[:0], avg_factor=factor)
        _expect_scalar(config, f"of no elements, with avg_factor={factor}, the loss", value, 0.0)
        name = (
            "the loss of no elements has to pass a gradient to the prediction, for processes that wait for it"
        )
        expect(config, name, holds=value.requires_grad)


def _check_reductions(config: LossConfig, loss: Loss, pred: Tensor, target: Tensor, each: Tensor) -> None:
    total = each.sum()
    _expect_scalar(
        config, 'with reduction "sum" the loss', loss(pred, target, reduction_override="sum"), float(total)
    )
    mean = float(total) / each.numel()
    _expect_scalar(
        config, 'with reduction "mean" the loss', loss(pred, target, reduction_override="mean"), mean
    )
    of_config = evolve(config, reduction="sum").build().eval()(pred, target)
    _expect_scalar(config, 'of a config with reduction "sum" the loss', of_config, float(total))
    nothing = loss(pred, target, weight=torch.zeros_like(each), reduction_override="sum")
    _expect_scalar(config, "of elements of weight 0 the loss", nothing, 0.0)
    if loss.by_level:  # elements weigh one another, so that the divisor is the loss's own
        return
    for factor in (5.0, torch.tensor(5.0)):
        divided = loss(pred, target, avg_factor=factor, reduction_override="mean")
        _expect_scalar(config, "with avg_factor=5 the loss", divided, float(total) / 5)
    weight = torch.rand_like(each)
    weighted = loss(pred, target, weight=weight, reduction_override="sum")
    _expect_scalar(config, "of weighted elements the sum", weighted, float((each * weight).sum()))


def _inputs(config: LossConfig) -> tuple[Tensor, Tensor]:
    if isinstance(config, ClassLossConfig):
        logits = torch.randn(ELEMENTS, config.cls_channels(CLASSES))
        return logits, torch.arange(ELEMENTS) % (CLASSES + 1)
    boxes = boxes_at_random(ELEMENTS)
    return boxes + 4 * torch.rand(ELEMENTS, 4) - 2, boxes


def _gradient(
    config: LossConfig, loss: Loss, pred: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, weight, avg_factor=None if loss.by_level else float(len(pred)))
    expect(
        config,
        f"of predictions in {pred.dtype} the loss has to be finite, and is {value}",
        holds=bool(value.isfinite()),
    )
    expect(config, "the loss has to pass a gradient to the prediction", holds=value.requires_grad)
    (gradient,) = torch.autograd.grad(value, pred)
    return gradient


def _close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def _expect_scalar(config: LossConfig, name: str, value: Tensor, expected: float) -> None:
    expect_tensor(config, name, value, (), torch.float32)
    found = float(value.detach())
    close = abs(found - expected) <= 1e-5 + 1e-4 * abs(expected)
    expect(config, f"{name} has to be {expected:.6g}, and is {found:.6g}", holds=close)
