"""Path aggregation adds a way back up to the pyramid."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve

from detcfg.necks.fpn import FPNConfig
from detcfg.necks.pafpn import PAFPNConfig

CONFIG = PAFPNConfig(in_channels=(4, 8, 16), in_strides=(4, 8, 16), out_channels=6, num_outs=3)


def maps() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 4 * 2**i, size, size) for i, size in enumerate((13, 7, 4)))


def test_each_level_adds_the_strided_sum_below_it() -> None:
    neck = CONFIG.build()
    plain = FPNConfig(
        in_channels=CONFIG.in_channels, in_strides=CONFIG.in_strides, out_channels=6, num_outs=3
    ).build()
    plain.load_state_dict(neck.state_dict(), strict=False)

    inner, outs = plain(maps()), neck(maps())

    total = inner[0]
    torch.testing.assert_close(outs[0], total)
    for level in (1, 2):
        total = inner[level] + neck.downsample_convs[level - 1](total)
        torch.testing.assert_close(outs[level], neck.pafpn_convs[level - 1](total))


@pytest.mark.parametrize("extra", [False, "on_input", "on_lateral", "on_output"])
@pytest.mark.parametrize(("start_level", "num_outs"), [(0, 5), (1, 4), (2, 1)])
def test_levels_are_known_before_there_are_weights(extra: Any, start_level: int, num_outs: int) -> None:
    config = evolve(CONFIG, add_extra_convs=extra, start_level=start_level, num_outs=num_outs)
    outs = config.build()(tuple(torch.rand(1, 4 * 2**i, 32 // 2**i, 32 // 2**i) for i in range(3)))

    assert tuple(out.shape[1] for out in outs) == config.feature_channels
    assert tuple(128 // out.shape[2] for out in outs) == config.feature_strides


def test_the_first_extra_level_reads_the_last_output() -> None:
    neck = evolve(CONFIG, num_outs=4, add_extra_convs="on_output").build()
    outs = neck(maps())
    torch.testing.assert_close(outs[3], neck.fpn_convs[3](outs[2]))
