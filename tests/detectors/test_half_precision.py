"""Training in bfloat16 gives nearly the losses and gradients of float32, computed where it matters in float32."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from detcfg.detectors.base import DetectorConfig
from detcfg.precision import in_full_precision, widened
from detcfg.recipe.amp import autocast
from detcfg.structures import Targets
from tests.support.experiments import NAMES, experiment
from tests.support.small import narrow, objects

SIDE = 96
"""Pixels. From images of 64 a pyramid's coarsest map comes from a single place, at which oneDNN's bf16 gradient of
a 3x3 kernel of stride 2 reads memory that nobody wrote."""


def losses_and_gradient(config: DetectorConfig, *, half: bool) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    model = config.build().train()
    images = [torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8) for _ in range(2)]
    boxes = torch.tensor([[4.0, 5.0, 90.0, 80.0], [60.0, 40.0, 150.0, 118.0]])
    masks = torch.zeros(2, 128, 160, dtype=torch.bool)
    masks[0, 10:70, 10:80] = masks[1, 50:110, 70:140] = True
    targets = [Targets(boxes=boxes, labels=torch.tensor([0, 1]), masks=masks)] * 2
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses: dict[str, Tensor] = model.loss(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    neck = [
        p.grad.flatten() for name, p in model.named_parameters() if "neck." in name and p.grad is not None
    ]
    return losses, torch.cat(neck)


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "retinanet", "fcos", "gfl"])
def test_losses_are_float32_and_as_in_float32_but_for_rounding(name: str) -> None:
    # Samplers take all, as a prior that rounding moves across a threshold would have others drawn with it. Layers are
    # narrow, as processors without bfloat16 of their own take a minute for a whole model.
    config = evolve(narrow(experiment(name).model, num=10**6), num_classes=80)
    (whole, expected), (half, found) = (losses_and_gradient(config, half=half) for half in (False, True))

    assert whole.keys() == half.keys()
    for key, loss in half.items():
        assert loss.dtype == torch.float32, key
        torch.testing.assert_close(loss, whole[key], rtol=0.05, atol=0.01, msg=key)
    assert torch.cosine_similarity(found, expected, dim=0) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_trains_and_predicts_in_half_precision(name: str) -> None:
    torch.manual_seed(0)
    model = evolve(narrow(experiment(name).model, num=4, max_per_img=5), num_classes=3).build().train()
    images = [torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in range(2)]
    with autocast(model, "bf16"):
        losses: dict[str, Tensor] = model.loss(images, [objects(count, SIDE) for count in (2, 1)])
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]

    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    with torch.inference_mode(), autocast(model.eval(), "bf16"):
        for found in model.predict(images):
            assert found.boxes.dtype == found.scores.dtype == torch.float32
            assert found.boxes.isfinite().all()


def test_a_layer_in_full_precision_rounds_nothing_of_what_it_computes() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(256, 4), torch.rand(8, 256)
    with torch.autocast("cpu", torch.bfloat16):
        blurred, exact = layer(x), in_full_precision(layer, x.bfloat16())

    assert torch.equal(exact, layer(x.bfloat16().float()))
    assert not torch.equal(blurred.float(), exact)


def test_a_layer_in_full_precision_leaves_double_precision_as_it_is() -> None:
    layer = nn.Linear(4, 2).double()
    assert in_full_precision(layer, torch.rand(3, 4, dtype=torch.float64)).dtype == torch.float64


def test_what_a_head_predicts_is_widened_whatever_holds_it() -> None:
    half, mask = torch.rand(2).bfloat16(), torch.ones(1, dtype=torch.bool)
    predicted = ([half], {"scores": (half, None)}, Targets(boxes=half, labels=mask))
    lists, named, targets = widened(predicted)

    assert torch.equal(lists[0], half.float())
    assert torch.equal(named["scores"][0], half.float())
    assert named["scores"][1] is None
    assert targets.boxes.dtype == torch.float32
    assert targets.labels is mask
