"""The fast backend gives the numbers of the default one, which gives those of pycocotools."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from detcfg.data.demo import DemoDatasetConfig
from detcfg.errors import DetcfgError
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.evaluation.truth import IoUType
from detcfg.structures import Detections
from tests.support.pycocotools import FAKE, TRUTH, needs_fake, random_world, reference

hotcoco = pytest.importorskip("hotcoco")


def both(evaluator: CocoEvaluator, kind: IoUType) -> tuple[list[float], list[float]]:
    """The numbers, overall and by class, of the two backends."""
    results: list[list[float]] = []
    for backend in ("numpy", "hotcoco"):
        evaluator.backend = backend
        evaluator.merge({})  # forget what was computed
        classes = evaluator.per_class(kind).values()
        results.append([*evaluator.compute().values(), *(c.AP for c in classes), *(c.AR100 for c in classes)])
    return results[0], results[1]


@needs_fake
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_real_detections_get_the_same_numbers(kind: IoUType) -> None:
    evaluator = CocoEvaluator.from_files(TRUTH, FAKE / f"instances_val2014_fake{kind}100_results.json", kind)
    default, fast = both(evaluator, kind)
    assert fast == pytest.approx(default, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_crowds_equal_scores_and_all_sizes_get_the_numbers_of_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, found = random_world(seed)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(found))
    evaluator = CocoEvaluator.from_files(tmp_path / "gt.json", tmp_path / "dt.json", "bbox")
    default, fast = both(evaluator, "bbox")
    assert fast == pytest.approx(default, abs=1e-12)
    assert fast[:12] == pytest.approx(reference(truth, found, "bbox"), abs=1e-9)


def test_masks_that_are_not_their_boxes_get_the_same_numbers() -> None:
    dataset = DemoDatasetConfig(num_images=8).dataset(with_mask=True)
    evaluator = CocoEvaluator(dataset, ("bbox", "segm"))
    generator = torch.Generator().manual_seed(0)
    for sample in dataset:
        masks = sample.targets.masks
        assert masks is not None
        shift = int(torch.randint(1, 6, (), generator=generator))
        scores = torch.rand(len(masks), generator=generator)
        found = Detections(sample.targets.boxes + shift, scores, sample.targets.labels, masks.roll(shift, 2))
        evaluator.add(sample.info.image_id, found)
    for kind in ("bbox", "segm"):
        default, fast = both(evaluator, kind)
        assert fast == pytest.approx(default, abs=1e-12)


def test_nothing_found_is_no_trouble() -> None:
    evaluator = CocoEvaluator(DemoDatasetConfig(num_images=2).dataset())
    default, fast = both(evaluator, "bbox")
    assert default == fast


def test_difficult_objects_go_through_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class Difficult:
        def ground_truth(self) -> dict[str, object]:
            box = {"image_id": "a", "category_id": 1, "iscrowd": 0, "area": 400}
            return {
                "images": [{"id": "a", "height": 100, "width": 100}],
                "annotations": [
                    {**box, "id": 1, "bbox": [0, 0, 20, 20]},
                    {**box, "id": 2, "bbox": [50, 50, 20, 20], "difficult": 1},
                ],
                "categories": [{"id": 1, "name": "x"}],
            }

    monkeypatch.setattr(hotcoco, "COCOeval", None)
    evaluator = CocoEvaluator(Difficult())
    evaluator.add(
        "a",
        Detections(
            torch.tensor([[50.0, 50, 70, 70], [0, 0, 20, 20]]),
            torch.tensor([0.9, 0.8]),
            torch.zeros(2).long(),
        ),
    )
    default, fast = both(evaluator, "bbox")
    assert default == fast
    assert fast[0] == pytest.approx(1)


def test_its_absence_is_an_error_that_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    evaluator = CocoEvaluator(DemoDatasetConfig(num_images=2).dataset())
    evaluator.backend = "hotcoco"
    with pytest.raises(DetcfgError, match=r"pip install 'detcfg\[fast\]'"):
        evaluator.compute()
