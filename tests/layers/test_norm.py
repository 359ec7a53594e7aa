"""Norms and what holds them still."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detcfg.layers.norm import (
    BNConfig,
    GNConfig,
    LNConfig,
    NormConfig,
    SyncBNConfig,
    eval_batch_norms,
    freeze,
)


def test_a_batch_norm_takes_its_share_of_the_batch_into_its_statistics() -> None:
    norm = BNConfig(momentum=0.3, eps=0.5).build_for(2)
    x = torch.tensor([[[[1.0, 3.0]], [[10.0, 10.0]]]])  # (1, 2, 1, 2): means 2 and 10, variances 1 and 0

    out = norm(x)

    torch.testing.assert_close(norm.get_buffer("running_mean"), torch.tensor([0.3 * 2, 0.3 * 10]))
    torch.testing.assert_close(out[0, :, 0], torch.tensor([[-1.0, 1.0], [0.0, 0.0]]) / 1.5**0.5)


def test_a_group_norm_normalises_each_group_of_channels() -> None:
    x = torch.randn(2, 6, 4, 5) * 7 + 3
    groups = GNConfig(num_groups=3).build_for(6)(x).view(2, 3, -1)

    torch.testing.assert_close(groups.mean(2), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.var(2, unbiased=False), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_a_layer_norm_normalises_the_last_dimension() -> None:
    out = LNConfig().build_for(8)(torch.randn(2, 3, 8) * 7 + 3)

    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(-1, unbiased=False), torch.ones(2, 3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "abbr"), [(BNConfig(), "bn"), (SyncBNConfig(), "bn"), (GNConfig(), "gn"), (LNConfig(), "ln")]
)
def test_names_in_state_dicts_are_mmdetections(config: NormConfig, abbr: str) -> None:
    assert config.abbr == abbr


def test_batch_norms_in_evaluation_mode_leave_their_statistics() -> None:
    layers = nn.Sequential(nn.Dropout(), BNConfig().build_for(2), GNConfig(num_groups=1).build_for(2)).train()
    eval_batch_norms(layers)
    layers(torch.randn(4, 2, 3, 3) + 5)

    assert [layer.training for layer in layers] == [True, False, True]
    assert torch.equal(torch.zeros(2), layers[1].get_buffer("running_mean"))


def test_a_frozen_module_is_in_evaluation_mode_and_has_no_gradients() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), BNConfig().build_for(2)).train()
    freeze(module)

    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
