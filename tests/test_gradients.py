"""Each trained parameter of each experiment has a gradient in every step.

So no process waits for one that another never computes: `find_unused_parameters` is never needed.
"""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg.structures import Targets
from tests.support.small import narrow
from tests.test_experiments import NAMES, experiment

SIZE = 64
"""Pixels of an image's side."""
LARGER = {"detectors": 128}
"""Its atrous convolutions reflect two pixels of the coarsest map, which has to have three."""


def objects(count: int, side: int) -> Targets:
    """Squares in the upper left of an image."""
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [10.0, 8.0, 26.0, 24.0]])[:count]
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    corners: list[list[int]] = boxes.int().tolist()
    for mask, box in zip(masks, corners, strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
    return Targets(boxes=boxes, labels=torch.arange(count), masks=masks)


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_has_a_gradient_whatever_is_in_the_images(name: str) -> None:
    torch.manual_seed(0)
    model = evolve(narrow(experiment(name).model, num=4), num_classes=3).build().train()
    side = LARGER.get(name, SIZE)
    images = [torch.randint(256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    for counts in ((2, 0), (0, 0)):
        losses = model(images, [objects(count, side) for count in counts])
        assert isinstance(losses, dict)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, counts
        model.zero_grad()
