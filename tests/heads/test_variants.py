"""Dense heads with other settings than their experiments': losses, gradients and detections are MMDetection's.

`variants.json` has the figures of MMDetection 3.3.0's own heads, one line a variant: its `model` dict (without
the backbone), what every weight was made by (`fill_weights`), and what came of the features and objects below.
The dict goes through the importer, so that a setting that is read wrongly shows here, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.testing import assert_close

from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.interop.mmdet.data import Node
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.translate import translate_model
from detcfg.structures import ImageBatch
from tests.support.dense import fill_weights
from tests.support.variants import BACKBONE, OBJECTS, PADDED, SIZES, features

VARIANTS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "variants.json").read_text())


def imported(model: dict[str, Any], folder: Path) -> DenseHead:
    """The head of a model in MMDetection's words."""
    path = folder / "variant.py"
    path.write_text(f"model = { ({'backbone': BACKBONE} | model)!r}\n")
    found = translate_model(cast("Node", read_config(path).data["model"]))
    resolved: Any = found.complete.resolved()
    config: DenseHeadConfig = resolved.rpn_head if "rpn_head" in model else resolved.bbox_head
    return config.build()


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_losses_gradients_and_detections_are_mmdetections(name: str, tmp_path: Path) -> None:
    figures = VARIANTS[name]
    head = imported(figures["model"], tmp_path)
    fill_weights(head, figures["spread"])
    maps = features(figures["strides"])
    images = ImageBatch(
        tensor=torch.zeros(2, 3, *SIZES[0]), sizes=SIZES, padded_sizes=PADDED, output_sizes=SIZES
    )

    losses = head.loss(maps, images, OBJECTS)
    torch.stack(list(losses.values())).sum().backward()
    found = {key: float(loss.detach()) for key, loss in losses.items()}
    assert found == pytest.approx(figures["losses"], rel=2e-4)
    norms = torch.stack([p.grad.norm() for p in head.parameters() if p.grad is not None])
    assert float(norms.norm()) == pytest.approx(figures["grad_norm"], rel=1e-3)

    fill_weights(head, figures["spread"])  # once more, as the statistics of batch norms have moved
    second = ImageBatch(
        tensor=images.tensor[1:], sizes=SIZES[1:], padded_sizes=PADDED[1:], output_sizes=SIZES[1:]
    )
    with torch.no_grad():
        (detections,) = head.eval().predict(tuple(level[1:] for level in maps), second)
    count = len(figures["scores"])
    assert len(detections) == figures["count"]
    assert_close(detections.scores[:count], torch.tensor(figures["scores"]), atol=1e-3, rtol=0)
    assert_close(detections.boxes[:count], torch.tensor(figures["boxes"]), atol=0.05, rtol=1e-4)
    assert torch.equal(detections.labels[:count], torch.tensor(figures["labels"]))
