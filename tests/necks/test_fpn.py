"""The pyramid gives the levels that its config says, and adds what MMDetection's adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch.nn import functional as F

from detcfg.config import ConfigError
from detcfg.layers.norm import BNConfig
from detcfg.necks.fpn import FPNConfig
from tests.support.parity import golden_shapes, shapes

CONFIG = FPNConfig(in_channels=(4, 8, 16, 32), in_strides=(4, 8, 16, 32), out_channels=6)


def maps(*sizes: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 4 * 2**i, size, size + 1) for i, size in enumerate(sizes))


@pytest.mark.parametrize(
    ("golden", "config"),
    [
        ("faster_rcnn", FPNConfig()),
        ("retinanet", FPNConfig(start_level=1, add_extra_convs="on_input")),
        ("fcos", FPNConfig(start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True)),
    ],
)
def test_tensors_are_those_of_mmdetection(golden: str, config: FPNConfig) -> None:
    config = evolve(config, in_channels=(256, 512, 1024, 2048), in_strides=(4, 8, 16, 32))
    with torch.device("meta"):
        assert shapes(config.build()) == golden_shapes(golden, "neck")


@pytest.mark.parametrize("extra", [False, True, "on_input", "on_lateral", "on_output"])
@pytest.mark.parametrize(("start_level", "num_outs"), [(0, 5), (1, 5), (1, 3), (3, 2)])
def test_levels_are_known_before_there_are_weights(extra: Any, start_level: int, num_outs: int) -> None:
    config = evolve(CONFIG, add_extra_convs=extra, start_level=start_level, num_outs=num_outs)
    outs = config.build()(maps(32, 16, 8, 4))

    assert tuple(out.shape[1] for out in outs) == config.feature_channels
    assert tuple(128 // out.shape[2] for out in outs) == config.feature_strides


def test_each_level_is_the_convolved_sum_of_the_laterals_above() -> None:
    neck = CONFIG.build()
    inputs = maps(13, 7, 4, 2)
    outs = neck(inputs)

    total = neck.lateral_convs[3](inputs[3])
    for level in (2, 1, 0):
        total = neck.lateral_convs[level](inputs[level]) + F.interpolate(total, size=inputs[level].shape[2:])
        torch.testing.assert_close(outs[level], neck.fpn_convs[level](total))
    torch.testing.assert_close(outs[4], outs[3][..., ::2, ::2])


def test_extra_levels_may_see_a_rectified_map() -> None:
    plain = evolve(CONFIG, add_extra_convs="on_output", num_outs=6).build()
    relu = evolve(CONFIG, add_extra_convs="on_output", num_outs=6, relu_before_extra_convs=True).build()
    relu.load_state_dict(plain.state_dict())
    one, other = plain(maps(16, 8, 4, 2)), relu(maps(16, 8, 4, 2))

    torch.testing.assert_close(one[4], other[4])  # the first extra level reads its source as it is
    torch.testing.assert_close(other[5], relu.fpn_convs[5](other[4].relu()))
    assert not torch.allclose(one[5], other[5])


def test_the_last_level_in_use_may_be_an_earlier_one() -> None:
    config = evolve(CONFIG, start_level=1, end_level=2, num_outs=2)
    assert config.feature_strides == (8, 16)
    assert [out.shape[2] for out in config.build()(maps(16, 8, 4, 2))] == [8, 4]


def test_laterals_may_go_without_a_norm() -> None:
    names = evolve(CONFIG, norm_cfg=BNConfig(), no_norm_on_lateral=True).build().state_dict()
    assert "fpn_convs.0.bn.weight" in names
    assert "lateral_convs.0.conv.bias" in names
    assert "lateral_convs.0.bn.weight" not in names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_outs": 3}, "num_outs is 3, but the neck uses 4"),
        ({"start_level": 4}, "start_level is 4"),
        ({"end_level": 2, "num_outs": 5}, "num_outs is 5, but start_level=0 and end_level=2 use 3 levels"),
        ({"add_extra_convs": "on_top"}, "add_extra_convs must be"),
    ],
)
def test_levels_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(CONFIG, **changes).resolved()
