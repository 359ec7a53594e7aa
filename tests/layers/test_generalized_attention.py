"""Attention by content and by relative position."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.layers.generalized_attention import GeneralizedAttention, GeneralizedAttentionConfig


def _random(config: GeneralizedAttentionConfig, channels: int = 8) -> GeneralizedAttention:
    torch.manual_seed(0)
    module = config.build_for(channels)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def _heads(x: Tensor) -> Tensor:
    return x.view(len(x), 2, 4, -1).transpose(2, 3)


def test_with_content_alone_it_is_multi_head_attention() -> None:
    module = _random(GeneralizedAttentionConfig(num_heads=2, attention_type="1000", kv_stride=2))
    x = torch.randn(3, 8, 6, 5)
    kept = x[:, :, ::2, ::2]
    query, key, value = (
        _heads(module.query_conv(x)),
        _heads(module.key_conv(kept)),
        _heads(module.value_conv(kept)),
    )

    mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(2, 3).reshape(x.shape)

    torch.testing.assert_close(x + module.gamma * module.proj_conv(mixed), module(x))


def test_with_position_alone_it_does_not_matter_what_is_seen_where_one_looks() -> None:
    """All of a softmax goes by locations, so what is added is linear in the input."""
    module = _random(GeneralizedAttentionConfig(num_heads=2, attention_type="0001"))
    nn.init.zeros_(next(p for p in module.proj_conv.parameters() if p.dim() == 1))
    first, second = torch.randn(2, 1, 8, 5, 7)

    added = module(first + second) - first - second

    torch.testing.assert_close(module(first) - first + module(second) - second, added, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention_type", ["1000", "0010", "1111", "0101"])
def test_a_place_does_not_look_further_than_the_range(attention_type: str) -> None:
    module = _random(
        GeneralizedAttentionConfig(num_heads=2, attention_type=attention_type, kv_stride=1, spatial_range=1)
    )
    x = torch.randn(1, 8, 9, 9)
    changed = x.clone()
    changed[..., 6:, :] += 1

    difference = (module(x) - module(changed)).abs().sum(dim=(0, 1, 3))

    assert torch.equal(torch.zeros(4), difference[:4])  # mmcv's range is one more place downwards
    assert (difference[6:] > 0).all()


def test_it_starts_as_the_identity() -> None:
    x = torch.randn(1, 16, 4, 6)
    assert torch.equal(x, GeneralizedAttentionConfig(num_heads=4).build_for(16)(x))


def test_the_term_without_bias_says_that_it_works_on_square_maps() -> None:
    module = _random(GeneralizedAttentionConfig(num_heads=2, attention_type="0100"))
    assert module(torch.rand(0, 8, 7, 7)).shape == (0, 8, 7, 7)
    with pytest.raises(ValueError, match="square"):
        module(torch.rand(1, 8, 7, 5))


def test_attention_needs_a_term() -> None:
    with pytest.raises(ConfigError, match="at least one term"):
        GeneralizedAttentionConfig(attention_type="0000").resolved()
