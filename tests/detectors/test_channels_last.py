"""The layout of the channels changes no value."""

from __future__ import annotations

import torch
from attrs import evolve
from torch import Tensor

from detcfg.backbones.resnet import ResNetConfig
from detcfg.structures import Targets
from tests.support.tiny import Experiment

TARGETS = Targets(
    boxes=torch.tensor([[4.0, 5.0, 30.0, 40.0], [20.0, 20.0, 64.0, 58.0]]), labels=torch.tensor([0, 1])
)


def losses_and_gradients(*, channels_last: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = Experiment().resolved().model.build().double().train()
    if channels_last:
        model.channels_last()
        strides = {p.stride()[1] for p in model.parameters() if p.ndim == 4 and min(p.shape) > 1}
        assert strides == {1}
    images = [torch.randint(0, 256, (3, 60, 70), dtype=torch.uint8) for _ in range(2)]
    found: dict[str, Tensor] = model.loss(images, [TARGETS] * 2)
    torch.stack(list(found.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in found.items()} | gradients


def test_losses_and_gradients_stay_the_same() -> None:
    plain, last = (losses_and_gradients(channels_last=which) for which in (False, True))
    assert plain.keys() == last.keys()
    for name, value in plain.items():
        torch.testing.assert_close(last[name], value, msg=name)


def test_narrow_strided_convolutions_keep_the_plain_layout() -> None:
    # On some processors they end the process otherwise: see `_may_overrun`.
    tiny = Experiment().model
    model = evolve(tiny, backbone=ResNetConfig(depth=18, base_channels=4), num_classes=3).build().train()
    model.channels_last()
    for _ in range(3):
        losses: dict[str, Tensor] = model.loss([torch.zeros(3, 64, 64, dtype=torch.uint8)], [TARGETS])
        torch.stack(list(losses.values())).sum().backward()

    assert all(parameter.is_contiguous() for parameter in model.parameters())
