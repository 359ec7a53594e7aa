"""The pyramid of CARAFE: extra levels come first, and all go down."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.layers.carafe import CARAFEUpsampleConfig
from detcfg.layers.upsample import NearestUpsampleConfig
from detcfg.necks.fpn_carafe import FPNCARAFEConfig

CONFIG = FPNCARAFEConfig(
    in_channels=(4, 8, 16),
    in_strides=(8, 16, 32),
    out_channels=6,
    upsample_cfg=CARAFEUpsampleConfig(up_kernel=3, compressed_channels=4),
)


def maps(*sizes: int) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 4 * 2**i, size, size + 1) for i, size in enumerate(sizes))


@pytest.mark.parametrize(("start_level", "num_outs"), [(0, 3), (0, 5), (1, 4)])
def test_levels_are_known_before_there_are_weights(start_level: int, num_outs: int) -> None:
    config = evolve(CONFIG, start_level=start_level, num_outs=num_outs)
    outs = config.build()(maps(16, 8, 4))
    assert tuple(out.shape[1] for out in outs) == config.feature_channels
    assert tuple(128 // out.shape[2] for out in outs) == config.feature_strides


def test_each_level_is_the_convolved_sum_of_those_above_cut_to_its_size() -> None:
    neck = CONFIG.build()
    inputs = maps(13, 7, 4)
    outs = neck(inputs)
    laterals = [conv(x) for conv, x in zip(neck.lateral_convs, (*inputs, inputs[-1]), strict=False)]
    laterals.append(neck.lateral_convs[4](laterals[3]))
    total = cast("Tensor", laterals[4])
    for level in (3, 2, 1, 0):
        height, width = laterals[level].shape[-2:]
        total = laterals[level] + neck.upsample_modules[level](total)[..., :height, :width]
        torch.testing.assert_close(outs[level], neck.fpn_convs[level](total))


def test_what_does_not_double_a_level_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"upsample_cfg\.scale_factor is 3"):
        evolve(CONFIG, upsample_cfg=NearestUpsampleConfig(scale_factor=3)).resolved()
