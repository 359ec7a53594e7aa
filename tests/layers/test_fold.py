"""Folding a batch norm into its convolution changes nothing but time and memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detcfg.layers.fold import ConvSequential, conv_norm


def pair(*, bias: bool = False, groups: int = 1, affine: bool = True) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=bias, groups=groups)
    norm = nn.BatchNorm2d(6, affine=affine)
    norm.running_mean = torch.randn(6)
    norm.running_var = torch.rand(6) + 0.5
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return conv.double(), norm.double()


@pytest.mark.parametrize(
    ("bias", "groups", "affine"), [(False, 1, True), (True, 1, True), (False, 2, True), (False, 1, False)]
)
def test_values_and_gradients_are_those_of_the_two_layers(*, bias: bool, groups: int, affine: bool) -> None:
    conv, norm = pair(bias=bias, groups=groups, affine=affine)
    norm.eval()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64, requires_grad=True)
    leaves = [x, *conv.parameters(), *norm.parameters()]

    plain = norm(conv(x))
    expected = torch.autograd.grad(plain.square().sum(), leaves)
    once = conv_norm(conv, norm, x)
    got = torch.autograd.grad(once.square().sum(), leaves)

    torch.testing.assert_close(once, plain)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_norm_in_training_uses_and_moves_its_statistics() -> None:
    conv, norm = pair()
    before = norm.running_mean.clone()
    out = conv_norm(conv, norm, torch.randn(2, 4, 9, 7, dtype=torch.float64))

    assert not torch.equal(before, norm.running_mean)
    torch.testing.assert_close(out.mean((0, 2, 3)), norm.bias)


def test_another_kind_of_norm_is_computed_as_written() -> None:
    conv, _ = pair()
    norm = nn.GroupNorm(2, 6).double().eval()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)

    assert torch.equal(norm(conv(x)), conv_norm(conv, norm, x))


def test_layers_in_a_row_are_computed_one_after_the_other() -> None:
    conv, norm = pair()
    last = nn.Conv2d(6, 3, 1).double()
    row = [nn.ReLU(), conv, norm, nn.ReLU(), last]
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)

    for mode in (True, False):
        norm.train(mode)
        torch.testing.assert_close(ConvSequential(*row)(x), nn.Sequential(*row)(x))
