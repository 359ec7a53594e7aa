"""Training in bfloat16 gives nearly the losses and gradients of float32, computed where it matters in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detcfg.experiment import ExperimentConfig
from detcfg.structures import Targets
from experiments import faster_rcnn, fcos, gfl, mask_rcnn, retinanet


def losses_and_gradient(experiment: ExperimentConfig, *, half: bool) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    model = experiment.resolved().model.build().train()
    images = [torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8) for _ in range(2)]
    boxes = torch.tensor([[4.0, 5.0, 90.0, 80.0], [60.0, 40.0, 150.0, 118.0]])
    masks = torch.zeros(2, 128, 160, dtype=torch.bool)
    masks[0, 10:70, 10:80] = masks[1, 50:110, 70:140] = True
    targets = [Targets(boxes=boxes, labels=torch.tensor([0, 1]), masks=masks)] * 2
    torch.manual_seed(1)  # of the samplers
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses: dict[str, Tensor] = model.loss(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    neck = [
        p.grad.flatten() for name, p in model.named_parameters() if "neck." in name and p.grad is not None
    ]
    return losses, torch.cat(neck)


@pytest.mark.parametrize(
    "experiment",
    [module.Experiment() for module in (faster_rcnn, mask_rcnn, retinanet, fcos, gfl)],
    ids=["faster_rcnn", "mask_rcnn", "retinanet", "fcos", "gfl"],
)
def test_losses_are_float32_and_as_in_float32_but_for_rounding(experiment: ExperimentConfig) -> None:
    (whole, expected), (half, found) = (losses_and_gradient(experiment, half=half) for half in (False, True))

    assert whole.keys() == half.keys()
    for name, loss in half.items():
        assert loss.dtype == torch.float32, name
        torch.testing.assert_close(loss, whole[name], rtol=0.05, atol=0.01, msg=name)
    assert torch.cosine_similarity(found, expected, dim=0) > 0.9
