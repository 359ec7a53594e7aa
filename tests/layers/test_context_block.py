"""A context block changes each place by one summary of all of them."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError
from detcfg.layers.context_block import ContextBlockConfig
from detcfg.layers.plugin import PluginConfig

FUSIONS: tuple[tuple[Literal["channel_add", "channel_mul"], ...], ...] = (
    ("channel_add",),
    ("channel_mul",),
    ("channel_add", "channel_mul"),
)


@pytest.mark.parametrize("pooling", ["att", "avg"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_context_is_a_weighted_mean_that_scales_and_shifts_channels(
    pooling: Literal["att", "avg"], fusion: tuple[Literal["channel_add", "channel_mul"], ...]
) -> None:
    torch.manual_seed(0)
    block = ContextBlockConfig(ratio=1 / 2, pooling_type=pooling, fusion_types=fusion).build_for(8)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 8, 3, 5)

    for image, out in zip(x, block(x), strict=True):
        locations = image.flatten(1)  # (C, H * W)
        weights = torch.full((15,), 1 / 15)
        if block.conv_mask is not None:
            logits = block.conv_mask.weight.flatten() @ locations + block.conv_mask.bias
            weights = logits.exp() / logits.exp().sum()
        context = (locations * weights).sum(1)[None, :, None, None]
        scale = 1 if block.channel_mul_conv is None else block.channel_mul_conv(context)[0].sigmoid()
        shift = 0 if block.channel_add_conv is None else block.channel_add_conv(context)[0]
        torch.testing.assert_close(out, image * scale + shift)


def test_at_first_it_adds_nothing() -> None:
    x = torch.randn(2, 8, 3, 5)
    assert torch.equal(ContextBlockConfig(ratio=1 / 4).build_for(8)(x), x)


def test_blocks_of_a_backbone_take_it_at_its_position_in_its_stages() -> None:
    plugins = (
        PluginConfig(cfg=ContextBlockConfig(ratio=1 / 4), position="after_conv2", postfix="_a"),
        PluginConfig(cfg=ContextBlockConfig(), position="after_conv3", stages=(False, True, False, True)),
    )
    with torch.device("meta"):
        names = ResNetConfig(plugins=plugins).build().state_dict()

    assert names["layer1.0.context_block_a.conv_mask.weight"].shape[1] == 64
    assert names["layer2.0.context_block.conv_mask.weight"].shape[1] == 512
    assert {name.split(".")[0] for name in names if ".context_block." in name} == {"layer2", "layer4"}


def test_two_of_one_name_are_refused() -> None:
    twice = (PluginConfig(cfg=ContextBlockConfig(), position="after_conv2"),) * 2
    with pytest.raises(ConfigError, match=r"two are named 'context_block' in stage 0\. Give one of them a p"):
        ResNetConfig(plugins=twice).resolved()
