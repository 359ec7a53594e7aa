"""Deformable convolution by the predicted shape of an anchor."""

from __future__ import annotations

import torch
from torch import nn

from detcfg.layers.feature_adaption import FeatureAdaption

X = torch.randn(1, 4, 6, 7)


def test_a_shape_of_zero_moves_no_tap() -> None:
    layer = FeatureAdaption(4, 5)
    plain = nn.functional.conv2d(X, layer.conv_adaption.weight, padding=1).relu()

    torch.testing.assert_close(plain, layer(X, torch.zeros(1, 2, 6, 7)))


def test_a_shape_moves_the_taps_but_gets_no_gradient() -> None:
    torch.manual_seed(0)
    layer = FeatureAdaption(4, 5)
    shape = torch.randn(1, 2, 6, 7, requires_grad=True)
    out = layer(X, shape)
    out.sum().backward()

    assert not torch.allclose(out, layer(X, torch.zeros(1, 2, 6, 7)))
    assert shape.grad is None
    assert layer.conv_offset.weight.grad is not None
    assert layer.conv_offset.weight.grad.abs().sum() > 0


def test_offsets_start_with_a_larger_deviation_than_the_other_weights() -> None:
    layer = FeatureAdaption(64, 64)
    assert 0.05 < layer.conv_offset.weight.std() < 0.15
    assert 0.009 < layer.conv_adaption.weight.std() < 0.011
