"""RoI heads with other settings than their experiments': losses, gradients and detections are MMDetection's.

`roi_variants.json` is to RoI heads what `variants.json` is to dense heads (test_variants.py). The proposals are
boxes at random and others near the objects, whose masks are ellipses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from attrs import evolve
from torch import Tensor
from torch.testing import assert_close

from detcfg.heads.roi.base import RoIHead, RoIHeadConfig
from detcfg.interop.mmdet.data import Node
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.translate import translate_model
from detcfg.structures import Detections, ImageBatch, Targets
from tests.support.dense import fill_weights
from tests.support.variants import BACKBONE, OBJECTS, PADDED, SIZES, features

VARIANTS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "roi_variants.json").read_text())


def imported(model: dict[str, Any], folder: Path) -> RoIHead:
    """The RoI head of a model in MMDetection's words."""
    path = folder / "variant.py"
    path.write_text(f"model = { ({'backbone': BACKBONE} | model)!r}\n")
    resolved: Any = translate_model(cast("Node", read_config(path).data["model"])).complete.resolved()
    config: RoIHeadConfig = resolved.roi_head
    return config.build()


def with_ellipses(objects: Targets, size: tuple[int, int]) -> Targets:
    """The objects, each with the ellipse inscribed in its box as its mask."""
    y, x = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    x1, y1, x2, y2 = objects.boxes[:, :, None].unbind(1)
    across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return evolve(objects, masks=across[:, None, :] ** 2 + down[:, :, None] ** 2 <= 1)


def proposals() -> list[Detections]:
    generator = torch.Generator().manual_seed(7)
    found: list[Detections] = []
    for (height, width), objects in zip(SIZES, OBJECTS, strict=True):
        low = torch.rand(40, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
        size = torch.rand(40, 2, generator=generator) * torch.tensor([width * 0.5, height * 0.5]) + 8
        high = torch.minimum(low + size, torch.tensor([float(width), float(height)]))
        near = objects.boxes.repeat(4, 1)
        near = (near + 4 * torch.randn(near.shape, generator=generator)).clamp(min=0)
        boxes = torch.cat([torch.cat([low, high], dim=1), near])
        scores, labels = torch.linspace(1, 0.1, len(boxes)), torch.zeros(len(boxes), dtype=torch.long)
        found.append(Detections(boxes=boxes, scores=scores, labels=labels))
    return found


def areas(masks: Tensor | None, count: int) -> Tensor:
    assert masks is not None
    return torch.stack([torch.as_tensor(masks[i]).sum() for i in range(count)]).float()


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_losses_gradients_and_detections_are_mmdetections(name: str, tmp_path: Path) -> None:
    figures = VARIANTS[name]
    head = imported(figures["model"], tmp_path)
    fill_weights(head)
    maps, found = features([4, 8, 16, 32, 64]), proposals()
    images = ImageBatch(
        tensor=torch.zeros(2, 3, *SIZES[0]), sizes=SIZES, padded_sizes=PADDED, output_sizes=SIZES
    )
    targets = [with_ellipses(objects, size) for objects, size in zip(OBJECTS, SIZES, strict=True)]

    torch.manual_seed(0)
    losses = head.loss(maps, found, images, targets)
    learnt = {key: loss for key, loss in losses.items() if "loss" in key}
    torch.stack(list(learnt.values())).sum().backward()
    assert {key: float(loss.detach()) for key, loss in learnt.items()} == pytest.approx(
        figures["losses"], rel=2e-4
    )
    norms = torch.stack([p.grad.norm() for p in head.parameters() if p.grad is not None])
    assert float(norms.norm()) == pytest.approx(figures["grad_norm"], rel=1e-3)

    fill_weights(head)
    with torch.no_grad():
        detections = head.eval().predict(maps, found, images)[0]
    count = len(figures["scores"])
    assert len(detections) == figures["count"]
    assert_close(detections.scores[:count], torch.tensor(figures["scores"]), atol=1e-3, rtol=0)
    assert_close(detections.boxes[:count], torch.tensor(figures["boxes"]), atol=0.05, rtol=1e-4)
    assert torch.equal(detections.labels[:count], torch.tensor(figures["labels"]))
    if "mask_areas" in figures:
        wanted = torch.tensor(figures["mask_areas"], dtype=torch.float32)
        assert_close(areas(detections.masks, count), wanted, atol=3, rtol=0.01)
