"""ConvModule is a convolution, a norm and an activation in the order it is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detcfg.config import ConfigError
from detcfg.layers.activation import LeakyReLUConfig
from detcfg.layers.conv import ConvSpec
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.conv_ws import ConvWS2d, ConvWSConfig
from detcfg.layers.deform_conv import DCNConfig, DCNv2Config
from detcfg.layers.norm import BNConfig, GNConfig, LNConfig, SyncBNConfig


def test_a_bias_is_there_exactly_where_no_norm_follows() -> None:
    assert set(ConvModule(2, 4, 3).state_dict()) == {"conv.weight", "conv.bias"}
    names = set(ConvModule(2, 4, 3, norm_cfg=GNConfig(num_groups=2)).state_dict())
    assert names == {"conv.weight", "gn.weight", "gn.bias"}


def test_the_order_is_that_of_the_steps() -> None:
    torch.manual_seed(0)
    module = ConvModule(
        3, 5, 1, norm_cfg=BNConfig(), act_cfg=LeakyReLUConfig(inplace=False), order=("act", "norm", "conv")
    )
    x = torch.randn(2, 3, 4, 4)
    norm = module.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_features == 3  # it stands before the convolution
    module.eval()
    torch.testing.assert_close(module(x), module.conv(norm(nn.functional.leaky_relu(x))))


@pytest.mark.parametrize("norm", [BNConfig(), SyncBNConfig(), GNConfig(num_groups=2), LNConfig()])
def test_a_norm_may_be_held(norm: BNConfig) -> None:
    held = (
        type(norm)(requires_grad=False)
        if not isinstance(norm, GNConfig)
        else GNConfig(num_groups=2, requires_grad=False)
    )
    assert all(p.requires_grad for p in norm.build_for(4).parameters())
    assert not any(p.requires_grad for p in held.build_for(4).parameters())


def test_groups_that_do_not_divide_the_channels_are_named() -> None:
    with pytest.raises(ConfigError, match="num_groups is 32, which does not divide 48"):
        GNConfig().build_for(48)


def test_standardised_filters_have_mean_zero_and_deviation_one() -> None:
    torch.manual_seed(0)
    conv = ConvWSConfig(eps=0.0).build_for(ConvSpec(3, 4, 3, bias=False))
    assert isinstance(conv, ConvWS2d)
    ones = torch.eye(27).view(27, 3, 3, 3)  # reads the filters off, one tap an image
    filters = conv(ones).view(27, 4).T
    torch.testing.assert_close(filters.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(filters.std(1), torch.ones(4))


def test_a_deformable_convolution_without_offsets_is_an_ordinary_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, 9)
    first = DCNConfig().build_for(ConvSpec(4, 6, 3, stride=2, padding=1, bias=False))
    second = DCNv2Config(deform_groups=2).build_for(ConvSpec(4, 6, 3, stride=2, padding=1))
    plain = nn.functional.conv2d(x, first.weight, stride=2, padding=1)
    torch.testing.assert_close(first(x), plain)
    # Modulation starts at sigmoid(0).
    plain = nn.functional.conv2d(x, second.weight, stride=2, padding=1)
    torch.testing.assert_close(second(x), plain / 2)


def test_the_offset_of_a_tap_moves_what_it_reads() -> None:
    conv = DCNConfig().build_for(ConvSpec(1, 1, 1, bias=False))
    nn.init.ones_(conv.weight)
    conv.conv_offset.bias = nn.Parameter(torch.tensor([0.0, 1.0]))  # (y, x): one column to the right
    x = torch.arange(12.0).view(1, 1, 3, 4)
    torch.testing.assert_close(conv(x)[..., :3], x[..., 1:])


def test_the_first_version_has_no_bias() -> None:
    with pytest.raises(ConfigError, match="DCN has no bias"):
        ConvModule(2, 2, 3, conv_cfg=DCNConfig())
