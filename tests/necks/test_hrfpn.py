"""HRFPN brings all branches together at the finest resolution, and pools."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from attrs import evolve
from torch.nn import functional as F

from detcfg.necks.hrfpn import HRFPNConfig

CONFIG = HRFPNConfig(in_channels=(4, 8, 12), in_strides=(4, 8, 16), out_channels=6, num_outs=4)


def maps() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 4 * (i + 1), 32 // 2**i, 32 // 2**i) for i in range(3))


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
def test_each_level_is_pooled_from_the_enlarged_branches(pooling: Literal["AVG", "MAX"]) -> None:
    neck = evolve(CONFIG, pooling_type=pooling).build()
    branches = maps()

    enlarged = [F.interpolate(x, scale_factor=2**i, mode="bilinear") for i, x in enumerate(branches[1:], 1)]
    merged = neck.reduction_conv(torch.cat([branches[0], *enlarged], 1))
    cells = merged.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    pooled = cells.mean(-1) if pooling == "AVG" else cells.amax(-1)

    torch.testing.assert_close(neck(branches)[2], neck.fpn_convs[2](pooled))


@pytest.mark.parametrize("changes", [{}, {"num_outs": 2}, {"stride": 2, "num_outs": 3}])
def test_levels_are_known_before_there_are_weights(changes: dict[str, Any]) -> None:
    config = evolve(CONFIG, **changes)
    outs = config.build()(maps())

    assert tuple(out.shape[1] for out in outs) == config.feature_channels
    assert tuple(128 // out.shape[2] for out in outs) == config.feature_strides


def test_recomputing_activations_changes_no_gradient() -> None:
    plain, recomputing = CONFIG.build(), evolve(CONFIG, with_cp=True).build()
    recomputing.load_state_dict(plain.state_dict())
    inputs = [x.requires_grad_() for x in maps()]

    grads = [
        torch.autograd.grad(sum(f.square().mean() for f in model(tuple(inputs))), list(model.parameters()))
        for model in (plain, recomputing)
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
