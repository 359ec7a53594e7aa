"""Each parameter gets the learning rate and the weight decay of its kind."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from detcfg.recipe import optimizers
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig, SGDConfig


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(1))


def rates(
    config: SGDConfig | AdamWConfig, model: nn.Module, lr_scale: float = 1.0
) -> dict[str, tuple[float, float]]:
    optimizer = config.optimizer(model, lr_scale)
    of = {p: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    return {name: of[p] for name, p in model.named_parameters() if p in of}


def test_without_multipliers_there_is_one_group() -> None:
    assert len(SGDConfig().optimizer(Toy()).param_groups) == 1


def test_multipliers_go_by_the_kind_of_the_parameter() -> None:
    paramwise = ParamwiseConfig(
        backbone_lr_mult=0.5,
        bias_lr_mult=2.0,
        bias_decay_mult=3.0,
        norm_decay_mult=0.0,
        dwconv_decay_mult=5.0,
        flat_decay_mult=7.0,
    )
    assert rates(SGDConfig(lr=1.0, weight_decay=1.0, paramwise_cfg=paramwise), Toy()) == {
        "scale": (1.0, 7.0),
        "backbone.0.weight": (0.5, 5.0),
        "backbone.0.bias": (1.0, 3.0),
        "backbone.1.weight": (0.5, 0.0),
        "backbone.1.bias": (0.5, 0.0),
        "head.weight": (1.0, 1.0),
        "head.bias": (2.0, 3.0),
    }


def test_the_longest_custom_key_counts_and_shuts_out_other_rules() -> None:
    keys = (CustomKeyConfig(key="backbone", lr_mult=0.1), CustomKeyConfig(key="backbone.1", decay_mult=0.2))
    paramwise = ParamwiseConfig(norm_decay_mult=0.0, custom_keys=keys)
    found = rates(AdamWConfig(lr=1.0, weight_decay=1.0, paramwise_cfg=paramwise), Toy())
    assert found["backbone.0.bias"] == (0.1, 1.0)
    assert found["backbone.1.weight"] == (1.0, 0.2)


def test_frozen_parameters_are_left_out_and_shared_ones_come_once() -> None:
    model = Toy()
    model.backbone.requires_grad_(requires_grad=False)
    model.other = model.head
    assert set(rates(SGDConfig(), model)) == {"scale", "head.weight", "head.bias"}
    model.requires_grad_(requires_grad=False)
    with pytest.raises(ValueError, match="Nothing in the model is trained"):
        SGDConfig().optimizer(model)


def test_the_learning_rate_scales_with_the_batch() -> None:
    assert rates(SGDConfig(lr=0.02), Toy(), lr_scale=0.25)["head.weight"][0] == pytest.approx(0.005)


@pytest.mark.parametrize("config", [SGDConfig(lr=0.1), SGDConfig(lr=0.1, nesterov=True), AdamWConfig(lr=0.1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_operation_for_all_parameters_gives_what_one_after_another_gives_resumed_or_not(
    config: SGDConfig | AdamWConfig, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*, fused: bool) -> list[torch.Tensor]:
        monkeypatch.setattr(optimizers, "can_fuse", lambda _: fused)
        torch.manual_seed(0)
        model = nn.Conv2d(4, 6, 3).to(memory_format=memory_format)  # type: ignore[call-overload]
        optimizer = config.optimizer(model)
        for step in range(4):
            if step == 2:  # as a checkpoint has it
                saved = deepcopy(optimizer.state_dict())
                for values in saved["state"].values():
                    values |= {name: value.contiguous() for name, value in values.items()}
                optimizers.load_state(optimizer, saved)
            model(torch.randn(2, 4, 8, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return list(model.parameters())

    assert optimizers.can_fuse(config.optimizer(Toy()).param_groups)
    torch.testing.assert_close(trained(fused=True), trained(fused=False))
