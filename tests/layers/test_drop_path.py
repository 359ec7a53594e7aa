"""Stochastic depth."""

from __future__ import annotations

import torch

from detcfg.layers.drop_path import DropPath, drop_path_rates


def test_a_sample_is_dropped_as_a_whole_or_scaled_as_a_whole() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(1000, 3, 2))

    assert set(out.flatten().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert all(len(sample.unique()) == 1 for sample in out)
    assert 0.7 < (out[:, 0, 0] > 0).float().mean() < 0.8
    assert abs(out.mean() - 1) < 0.06  # the expected value is the input


def test_in_evaluation_and_without_probability_nothing_is_dropped() -> None:
    x = torch.randn(8, 3)
    assert torch.equal(x, DropPath(0.9).eval()(x))
    assert torch.equal(x, DropPath(0.0).train()(x))


def test_rates_rise_linearly_over_all_blocks() -> None:
    rates = drop_path_rates(0.3, (1, 2, 1))

    assert [len(stage) for stage in rates] == [1, 2, 1]
    torch.testing.assert_close(
        torch.linspace(0, 0.3, 4), torch.tensor([rate for stage in rates for rate in stage])
    )


def test_a_single_block_is_never_dropped() -> None:
    assert drop_path_rates(0.3, (1,)) == [[0.0]]
