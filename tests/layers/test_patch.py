"""Patches become tokens."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detcfg.layers.norm import LNConfig
from detcfg.layers.patch import PatchEmbed, PatchMerging, corner_padded


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padded"),
    [((8, 8), 4, 4, (8, 8)), ((9, 6), 4, 4, (12, 8)), ((5, 5), 3, 2, (7, 7)), ((6, 2), 3, 2, (7, 3))],
)
def test_zeros_at_the_corner_make_a_patch_for_each_stride(
    size: tuple[int, int], kernel_size: int, stride: int, padded: tuple[int, int]
) -> None:
    x = torch.ones(1, 2, *size)
    out = corner_padded(x, kernel_size, stride)

    assert out.shape == (1, 2, *padded)
    assert torch.equal(x, out[..., : size[0], : size[1]])
    assert out.sum() == x.sum()
    patches = [(side - kernel_size) // stride + 1 for side in padded]
    assert patches == [math.ceil(side / stride) for side in size]


def test_a_token_is_a_linear_function_of_its_patch_alone() -> None:
    embed = PatchEmbed(1, 3, 2, stride=2)
    image = torch.arange(24.0).view(1, 1, 4, 6)
    tokens = embed(image)

    weight, bias = embed.projection.weight, embed.projection.bias
    patch = torch.tensor([14.0, 15, 20, 21])  # in the second row and the second column of patches
    assert tokens.shape == (1, 2, 3, 3)
    torch.testing.assert_close(weight.view(3, 4) @ patch + bias, tokens[0, 1, 1])


def test_a_norm_stands_behind_the_projection() -> None:
    tokens = PatchEmbed(3, 8, 4, stride=4, norm_cfg=LNConfig())(torch.randn(1, 3, 8, 8))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(1, 2, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_merging_is_unfolding_and_a_linear_layer_as_in_mmdetection(size: tuple[int, int]) -> None:
    merging = PatchMerging(3, 5, norm_cfg=LNConfig())
    x = torch.randn(2, *size, 3)
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    padded = F.pad(x.permute(0, 3, 1, 2), (0, 2 * width - size[1], 0, 2 * height - size[0]))
    unfolded = nn.Unfold(2, stride=2)(padded).transpose(1, 2)  # (B, tokens, 4 * C)
    norm = merging.norm
    assert norm is not None
    expected = merging.reduction(norm(unfolded)).view(2, height, width, 5)

    torch.testing.assert_close(expected, merging(x))
