"""The contracts of optimizers and schedules."""

from __future__ import annotations

import torch
from torch import nn

from detcfg.recipe.optimizers import OptimizerConfig
from detcfg.recipe.schedules import ScheduleConfig
from detcfg.testing.expect import expect


def check_optimizer(config: OptimizerConfig) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    model[0].requires_grad_(requires_grad=False)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = config.optimizer(model, lr_scale=0.5)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad]
    expect(
        config,
        "it has to hold what requires a gradient, and nothing else",
        holds=held == {id(p) for p in trained},
    )
    rates = all({"lr", "initial_lr"} <= group.keys() for group in optimizer.param_groups)
    expect(config, "each group has to have lr and initial_lr, which schedules go by", holds=rates)
    whole = config.optimizer(model).param_groups
    scaled = zip(optimizer.param_groups, whole, strict=True)
    halved = all(abs(a["initial_lr"] - b["initial_lr"] / 2) < 1e-9 for a, b in scaled)
    expect(config, "lr_scale has to multiply the learning rate of every group", holds=halved)
    loss = model(torch.rand(2, 3, 4, 4)).square().sum()
    for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
        parameter.grad = gradient
    optimizer.step()
    moved = [not now.equal(was) for now, was in zip(model.parameters(), before, strict=True)]
    expect(config, "a step has to change what is trained, and nothing else", holds=moved[:2] == [False] * 2)
    expect(config, "a step has to change the weights", holds=any(moved[2:]))


def check_schedule(config: ScheduleConfig) -> None:
    steps, epochs = 10, 12
    factors = [config.factor(step, steps, steps * epochs) for step in range(steps * epochs)]
    finite = all(0 <= factor < float("inf") for factor in factors)
    expect(config, f"factors have to be finite and at least 0, and are {factors}", holds=finite)
    again = [config.factor(step, steps, steps * epochs) for step in reversed(range(steps * epochs))]
    expect(
        config,
        "a factor has to be a function of the step alone: a resumed run asks once",
        holds=again[::-1] == factors,
    )
