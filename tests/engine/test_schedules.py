"""Learning rates over time, against torch's own schedulers where it has the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR, MultiStepLR

from detcfg.recipe.schedules import ConstantConfig, CosineConfig, MultiStepConfig


def test_warm_up_and_steps_agree_with_torch() -> None:
    config = MultiStepConfig(warmup_iters=5, start_factor=0.1, milestones=(2, 3), gamma=0.5)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    torchs = ChainedScheduler(
        [LinearLR(optimizer, 0.1, total_iters=4), MultiStepLR(optimizer, [20, 30], gamma=0.5)]
    )
    for step in range(40):
        assert config.factor(step, 10, 40) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()


def test_the_cosine_agrees_with_torch_once_it_begins() -> None:
    config = CosineConfig(warmup_iters=0, begin=1, eta_min_ratio=0.05)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    torchs = CosineAnnealingLR(optimizer, 30, eta_min=0.05)
    assert all(config.factor(step, 10, 40) == 1 for step in range(10))
    for step in range(10, 40):
        assert config.factor(step, 10, 40) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()


def test_the_cosine_has_fallen_the_last_epochs_that_it_is_told() -> None:
    config = CosineConfig(warmup_iters=0, begin=1, end=1, eta_min_ratio=0.5)

    assert config.factor(20, 10, 40) == pytest.approx(0.75)
    assert all(config.factor(step, 10, 40) == 0.5 for step in range(30, 40))


@pytest.mark.parametrize("iters", [0, 1])
def test_a_warm_up_of_nothing_starts_in_full(iters: int) -> None:
    assert ConstantConfig(warmup_iters=iters).factor(0, 10, 40) == 1


def test_every_group_moves_relative_to_its_own_rate() -> None:
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [{"params": [first], "initial_lr": 1.0}, {"params": [second], "initial_lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    MultiStepConfig(warmup_iters=0, milestones=(1,)).set_lr(optimizer, 10, 10, 40)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.01])
