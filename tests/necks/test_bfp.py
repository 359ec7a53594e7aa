"""The balanced feature pyramid, and necks behind one another."""

from __future__ import annotations

import pytest
import torch

from detcfg.config import ConfigError
from detcfg.necks.bfp import BFPConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.sequential import SequentialNeckConfig

SIZES = (16, 8, 4)


def test_without_refinement_each_level_gains_the_mean_of_all() -> None:
    """Levels that are constant stay so, whether they are pooled or enlarged."""
    neck = BFPConfig(in_channels=(2, 2, 2), in_strides=(4, 8, 16), refine_level=1).build()
    levels = tuple(torch.full((1, 2, size, size), float(i)) for i, size in enumerate(SIZES))

    outs = neck(levels)

    for level, out in zip(levels, outs, strict=True):
        assert torch.equal(level + 1.0, out)


def test_a_neck_reads_what_the_neck_before_it_gives() -> None:
    chain = SequentialNeckConfig(
        necks=(FPNConfig(out_channels=8), BFPConfig(refine_type="conv")),
        in_channels=(4, 8, 16),
        in_strides=(8, 16, 32),
    )

    assert (8,) * 5 == chain.feature_channels
    assert (8, 16, 32, 64, 128) == chain.feature_strides == chain.resolved().necks[1].in_strides
    outs = chain.build()(tuple(torch.rand(1, c, s, s) for c, s in zip((4, 8, 16), SIZES, strict=True)))
    assert [16, 8, 4, 2, 1] == [out.shape[-1] for out in outs]


def test_a_neck_that_expects_other_channels_is_named_with_both_values() -> None:
    chain = SequentialNeckConfig(
        necks=(FPNConfig(out_channels=8), BFPConfig(in_channels=(9,) * 5)),
        in_channels=(4, 8),
        in_strides=(8, 16),
    )
    with pytest.raises(
        ConfigError, match=r"in_channels is \(9, 9, 9, 9, 9\), but necks\.0\.feature_channels"
    ):
        chain.resolved()


@pytest.mark.parametrize(
    ("channels", "message"), [((4, 8, 8), "one width"), ((8, 8), "refine_level is 2, but in_channels has 2")]
)
def test_levels_that_cannot_be_balanced_are_an_error(channels: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BFPConfig(in_channels=channels, in_strides=(8,) * len(channels)).resolved()
