"""Depthwise separable convolutions."""

from __future__ import annotations

import torch
from torch import nn

from detcfg.layers.depthwise import DepthwiseSeparableConvModule
from detcfg.layers.norm import BNConfig


def test_the_first_convolution_mixes_no_channels_and_the_second_no_locations() -> None:
    module = DepthwiseSeparableConvModule(3, 5, 3, stride=2, padding=1, act_cfg=None)
    depthwise, pointwise = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    x = torch.randn(1, 3, 6, 8)
    each = [
        nn.functional.conv2d(x[:, c : c + 1], depthwise.weight[c : c + 1], stride=2, padding=1)
        for c in range(3)
    ]
    assert depthwise.bias is not None
    mixed = torch.cat(each, dim=1) + depthwise.bias.view(-1, 1, 1)
    expected = torch.einsum("oi,bihw->bohw", pointwise.weight[..., 0, 0], mixed)

    assert pointwise.bias is not None
    torch.testing.assert_close(expected + pointwise.bias.view(-1, 1, 1), module(x), atol=1e-5, rtol=1e-4)


def test_both_have_a_norm_and_names_of_mmdetection() -> None:
    names = set(DepthwiseSeparableConvModule(3, 5, 3, norm_cfg=BNConfig()).state_dict())
    assert {"depthwise_conv.conv.weight", "depthwise_conv.bn.weight", "pointwise_conv.bn.weight"} <= names
    assert "depthwise_conv.conv.bias" not in names
