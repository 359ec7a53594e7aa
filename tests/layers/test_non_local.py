"""Non-local blocks."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.layers.non_local import NonLocal2d, NonLocal2dConfig, Pairwise, flattened


def _reference(block: NonLocal2d, x: Tensor, mode: Pairwise, *, scale: bool) -> Tensor:
    """The equations of the paper, with every pair of locations in one matrix."""
    query, key, value = flattened(block.theta(x)), flattened(block.phi(x)), flattened(block.g(x))
    products = query @ key.transpose(1, 2)
    if mode in ("gaussian", "embedded_gaussian"):
        pairwise = (products / (key.shape[-1] ** 0.5 if scale else 1)).softmax(-1)
    elif mode == "dot_product":
        pairwise = products / key.shape[1]
    else:
        rows, columns = query.shape[1], key.shape[1]
        pairs = torch.cat(
            [query[:, :, None].expand(-1, -1, columns, -1), key[:, None].expand(-1, rows, -1, -1)], dim=-1
        )
        pairwise = block.concat_project(pairs.permute(0, 3, 1, 2)).squeeze(1) / columns
    mixed = (pairwise @ value).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
    total: Tensor = x + block.conv_out(mixed)
    return total


@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("mode", ["gaussian", "embedded_gaussian", "dot_product", "concatenation"])
def test_each_place_gets_what_the_papers_equations_say(mode: Pairwise, sub_sample: bool) -> None:  # noqa: FBT001
    torch.manual_seed(0)
    config = NonLocal2dConfig(mode=mode, reduction=1, sub_sample=sub_sample, zeros_init=False)
    block = config.build_for(8)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 8, 6, 5)

    torch.testing.assert_close(
        block(x), _reference(block, x, mode, scale=mode == "embedded_gaussian"), rtol=1e-4, atol=1e-4
    )


def test_it_starts_as_the_identity() -> None:
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(x, NonLocal2dConfig().build_for(8)(x))


def test_pooling_moves_the_names_of_the_weights_as_in_mmcv() -> None:
    names = set(NonLocal2dConfig(sub_sample=True).build_for(8).state_dict())
    assert {"g.0.conv.weight", "phi.0.conv.weight", "theta.conv.weight"} <= names


def test_the_mode_without_embedding_takes_no_reduction() -> None:
    with pytest.raises(ConfigError, match=r'mode is "gaussian" and reduction is 2'):
        evolve(NonLocal2dConfig(), mode="gaussian").resolved()
