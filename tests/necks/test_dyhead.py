"""Dynamic head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError
from detcfg.experiments import dyhead
from detcfg.heads.anchor_based.atss_head import ATSSHeadConfig
from detcfg.layers.dy_relu import DyReLU
from detcfg.necks.dyhead import DyHead, DyHeadBlock, DyHeadConfig, read_as
from tests.support import zoo

STRIDES = (8, 16, 32)


def pyramid(channels: int = 16) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, channels, 64 // stride, 128 // stride) for stride in STRIDES)


def neck(channels: int = 16, **changes: bool) -> DyHead:
    torch.manual_seed(0)
    return DyHeadConfig(
        in_channels=(channels,) * 3, in_strides=STRIDES, out_channels=32, num_blocks=2, **changes
    ).build()


def test_dynamic_relu_is_a_relu_where_its_coefficients_are_in_the_middle() -> None:
    layer = DyReLU(8)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 8, 5, 5)

    assert_close(layer(x), x.relu())


def test_dynamic_relu_is_the_larger_of_two_lines() -> None:
    layer = DyReLU(4)
    x = torch.randn(1, 4, 3, 3)
    hidden = layer.conv1(x.mean((2, 3), keepdim=True))
    theta = F.hardsigmoid(layer.conv2.conv(hidden)).view(4, 4, 1, 1) - 0.5

    first, second = x * (2 * theta[0] + 1) + theta[1], x * 2 * theta[2] + theta[3]

    assert_close(layer(x), torch.maximum(first, second))


def test_a_block_on_one_level_is_a_convolution_and_its_attentions() -> None:
    torch.manual_seed(0)
    block = DyHeadBlock(16, 16, zero_init_offset=True)
    x = torch.randn(1, 16, 6, 7)

    (out,) = block((x,))

    # Without offsets; the weight of each tap is sigmoid(0).
    convolved = block.spatial_conv_mid.norm(F.conv2d(x, 0.5 * block.spatial_conv_mid.conv.weight, padding=1))
    assert_close(out, block.task_attn_module(convolved * block.scale_attn_module(convolved)))


def test_levels_keep_their_sizes_and_everything_learns() -> None:
    module, features = neck(zero_init_offset=False), pyramid()

    out = module(features)

    assert [tuple(x.shape) for x in out] == [(2, 32, 64 // s, 128 // s) for s in STRIDES]
    torch.stack([x.square().sum() for x in out]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_a_coarse_level_reads_the_memory_of_the_finer_ones_offsets() -> None:
    maps = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)[:, :2]

    assert read_as(maps, 2, 3)[0].flatten().tolist() == list(range(12))
    assert read_as(maps, 2, 3)[1].flatten().tolist() == list(range(72, 84))


def test_levels_of_different_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="need one width"):
        DyHeadConfig(in_channels=(8, 16), in_strides=(8, 16)).resolved()


def test_the_parameters_are_mmdetections() -> None:
    head = ATSSHeadConfig(stacked_convs=0, pred_kernel_size=1)
    model = dyhead.Model(backbone=ResNetConfig(style="caffe"), bbox_head=head)
    zoo.check_state_dict("dyhead/atss_r50-caffe_fpn_dyhead_1x_coco.py", model)
