"""Maps as tokens, and the gradient that goes back."""

from __future__ import annotations

import torch

from detcfg.layers.tokens import tokens


def test_tokens_come_by_rows() -> None:
    assert tokens(torch.arange(6.0).view(1, 1, 2, 3)).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_norm_before_attention_has_the_same_gradient_alone_and_in_a_batch() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(4).eval()
    maps, weight = torch.randn(2, 4, 3, 5), torch.randn(2, 15, 4)

    def gradient(some: slice) -> torch.Tensor:
        x = maps[some].clone().requires_grad_()
        (tokens(norm(x)) * weight[some]).sum().backward()
        assert x.grad is not None
        return x.grad

    torch.testing.assert_close(gradient(slice(1)), gradient(slice(2))[:1])
