"""Activation checkpointing."""

from __future__ import annotations

import torch
from torch import Tensor

from detcfg.layers.checkpoint import recomputed


def test_values_and_gradients_are_the_same_and_the_function_runs_again_in_the_backward_pass() -> None:
    calls = 0

    def function(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x.sin() * x

    x = torch.randn(5, requires_grad=True)
    (expected,) = torch.autograd.grad(function(x).sum(), x)
    calls = 0
    out = recomputed(function, x)
    assert calls == 1
    (gradient,) = torch.autograd.grad(out.sum(), x)

    assert calls == 2
    assert torch.equal(function(x), out)
    assert torch.equal(expected, gradient)
