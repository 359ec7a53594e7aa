"""A 3x3 convolution at some locations."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from detcfg.layers.neighbourhoods import conv_at


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    count=st.integers(0, 12),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_gives_what_the_convolution_gives_there_and_the_same_gradients(
    height: int, width: int, count: int, *, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=bias).double()
    feature = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    images = torch.randint(0, 2, (count,))
    inds = torch.randint(0, height * width, (count,))
    inputs = [feature, *conv.parameters()]

    expected = conv(feature)[images, :, inds // width, inds % width]
    found = conv_at(conv, feature, images, inds)

    assert_close(found, expected)
    weights = torch.randn_like(expected)
    assert_close(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
    )
