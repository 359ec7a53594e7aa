"""Each trained parameter of each experiment has a gradient in every step.

So no process waits for one that another never computes: `find_unused_parameters` is never needed.
"""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from tests.support.experiments import NAMES, experiment
from tests.support.small import LARGER, SIDE, narrow, objects


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_has_a_gradient_whatever_is_in_the_images(name: str) -> None:
    torch.manual_seed(0)
    model = evolve(narrow(experiment(name).model, num=4), num_classes=3).build().train()
    side = LARGER.get(name, SIDE)
    images = [torch.randint(256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    for counts in ((2, 0), (0, 0)):
        losses = model(images, [objects(count, side) for count in counts])
        assert isinstance(losses, dict)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, counts
        model.zero_grad()
