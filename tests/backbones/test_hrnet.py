"""HRNet keeps its finest resolution and lets all resolutions exchange."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch.nn import functional as F

from detcfg.backbones.hrnet import HRExtraConfig, HRModule, HRNetConfig, HRStageConfig, wide
from detcfg.config import ConfigError
from detcfg.layers.norm import GNConfig

SMALL = HRNetConfig(
    extra=HRExtraConfig(
        stage1=HRStageConfig(
            num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(1,), num_channels=(8,)
        ),
        stage2=HRStageConfig(num_modules=1, num_branches=2, num_blocks=(1, 1), num_channels=(4, 8)),
        stage3=HRStageConfig(num_modules=2, num_branches=3, num_blocks=(1,) * 3, num_channels=(4, 8, 12)),
        stage4=HRStageConfig(
            num_modules=1,
            num_branches=4,
            block="BOTTLENECK",
            num_blocks=(1,) * 4,
            num_channels=(4, 8, 12, 16),
        ),
    )
)


@pytest.mark.parametrize(
    "config",
    [
        HRNetConfig(extra=wide(18)),
        SMALL,
        evolve(SMALL, multiscale_output=False),
        evolve(SMALL, norm_cfg=GNConfig(num_groups=4)),
    ],
)
def test_channels_and_strides_are_known_before_there_are_weights(config: HRNetConfig) -> None:
    with torch.device("meta"):
        features = config.build()(torch.empty(1, 3, 64, 128))

    assert tuple(f.shape[1] for f in features) == config.feature_channels
    assert tuple(64 // f.shape[2] for f in features) == config.feature_strides


def test_each_branch_becomes_the_rectified_sum_of_all() -> None:
    torch.manual_seed(0)
    stage = SMALL.extra.stage3
    module = HRModule(SMALL, stage).eval()
    given = tuple(torch.randn(2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate(stage.channels))
    assert module.fuse_layers is not None

    own = [row(x) for row, x in zip(module.branches, given, strict=True)]
    fused = [list(layers.children()) for layers in module.fuse_layers]
    middle = fused[1][0](own[0]) + own[1] + F.interpolate(fused[1][2](own[2]), scale_factor=2, mode="nearest")

    torch.testing.assert_close(module(given)[1], middle.relu())


def test_an_image_need_not_be_a_multiple_of_the_largest_stride() -> None:
    features = SMALL.build().eval()(torch.rand(1, 3, 70, 45))
    assert [tuple(f.shape[2:]) for f in features] == [(18, 12), (9, 6), (5, 3), (3, 2)]


def test_recomputing_activations_changes_no_gradient() -> None:
    torch.manual_seed(0)
    plain, recomputing = SMALL.build(), evolve(SMALL, with_cp=True).build()
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)

    for model in (plain, recomputing):
        sum(f.square().mean() for f in model(x)).backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stage2": HRStageConfig(num_modules=1, num_branches=2, num_blocks=(4,), num_channels=(4, 8))},
            r"extra.stage2: num_blocks has 1 values \(4,\), but num_branches is 2",
        ),
        ({"stage4": SMALL.extra.stage2}, r"stage4.num_branches is 2, but stage3.num_branches is 3"),
        ({"stage1": SMALL.extra.stage2}, r"stage1.num_branches is 2; the first stage has one"),
    ],
)
def test_stages_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(SMALL, extra=evolve(SMALL.extra, **changes)).resolved()
