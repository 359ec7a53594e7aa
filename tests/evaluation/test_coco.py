"""Average precision equals COCO's own, to the last digits that floating point keeps."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from detcfg.data.demo import DemoDataset, DemoDatasetConfig
from detcfg.data.errors import DataError
from detcfg.errors import DetcfgError
from detcfg.evaluation.coco import CocoEvaluator, evaluate_files
from detcfg.structures import Detections, Targets
from tests.support.pycocotools import FAKE, TRUTH, needs_fake, random_world, reference

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@needs_fake
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_published_numbers_come_out(kind: str) -> None:
    numbers = evaluate_files(TRUTH, FAKE / f"instances_val2014_fake{kind}100_results.json", kind)
    text = (FAKE / "val2014_fake_eval_res.txt").read_text().split(f"type={kind}")[1].split("type=")[0]
    published = [float(line.split("=")[-1]) for line in text.splitlines() if "Average" in line]
    assert list(numbers) == [f"{kind}_{name}" for name in NAMES]
    assert list(numbers.values()) == pytest.approx(published, abs=5.01e-4)


@needs_fake
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_numbers_equal_those_of_pycocotools(kind: str) -> None:
    found = FAKE / f"instances_val2014_fake{kind}100_results.json"
    numbers = evaluate_files(TRUTH, found, kind)
    assert list(numbers.values()) == pytest.approx(reference(TRUTH, found, kind), abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_crowds_equal_scores_and_all_sizes_are_treated_as_by_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, found = random_world(seed)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(found))
    numbers = evaluate_files(tmp_path / "gt.json", tmp_path / "dt.json")
    assert list(numbers.values()) == pytest.approx(reference(truth, found, "bbox"), abs=1e-12)


def detections_of(targets: Targets) -> Detections:
    return Detections(
        boxes=targets.boxes,
        scores=torch.linspace(0.9, 0.5, len(targets)),
        labels=targets.labels,
        masks=targets.masks,
    )


def test_the_objects_themselves_are_detections_without_a_fault() -> None:
    dataset = DemoDatasetConfig(num_images=4).dataset(with_mask=True)
    evaluator = CocoEvaluator(dataset, ("bbox", "segm"))
    for sample in dataset:
        evaluator.add(sample.info.image_id, detections_of(sample.targets))
    numbers = evaluator.compute()
    assert numbers["bbox_AP"] == numbers["segm_AP"] == pytest.approx(1)
    assert all(result.AP > 1 - 1e-9 for result in evaluator.per_class("segm").values() if result.objects)


class Reordered(DemoDataset):
    """A dataset whose annotations name the classes in another order, or others."""

    names: tuple[str, ...] | None = None

    def ground_truth(self) -> dict[str, Any]:
        truth = super().ground_truth()
        categories = truth["categories"][::-1]
        if self.names is not None:
            categories = [{"id": i + 1, "name": name} for i, name in enumerate(self.names)]
        return {**truth, "categories": categories}


def test_categories_in_another_order_are_the_classes_of_their_names() -> None:
    dataset = Reordered(DemoDatasetConfig(num_images=4).resolved(), with_mask=False)
    evaluator = CocoEvaluator(dataset)
    for sample in dataset:
        evaluator.add(sample.info.image_id, detections_of(sample.targets))
    assert evaluator.compute()["bbox_AP"] == pytest.approx(1)
    assert tuple(evaluator.per_class("bbox")) == dataset.classes


@pytest.mark.parametrize("names", [("circle", "square", "triangle", "cat"), ("circle",)])
def test_categories_that_are_not_the_classes_are_refused(names: tuple[str, ...]) -> None:
    dataset = Reordered(DemoDatasetConfig(num_images=4).resolved(), with_mask=False)
    dataset.names = names
    with pytest.raises(
        DataError, match=r"Reordered: ground_truth\(\) has the categories 'circle'.* classes are"
    ):
        CocoEvaluator(dataset)


def test_processes_put_together_give_what_one_process_gives() -> None:
    dataset = DemoDatasetConfig(num_images=6).dataset()
    whole, first, second = (CocoEvaluator(dataset) for _ in range(3))
    for index, sample in enumerate(dataset):
        found = detections_of(sample.targets)[: 1 + index % 3]
        for evaluator in (whole, first if index % 2 else second):
            evaluator.add(sample.info.image_id, found)
    assert first.compute() != whole.compute()
    first.merge(pickle.loads(pickle.dumps(second.state)))  # noqa: S301
    assert first.compute() == whole.compute()
    assert first.detections() == whole.detections()


def test_written_detections_give_the_same_numbers_when_read_again(tmp_path: Path) -> None:
    dataset = DemoDatasetConfig(num_images=5).dataset(with_mask=True)
    evaluator = CocoEvaluator(dataset, ("bbox", "segm"))
    for sample in dataset:
        found = detections_of(sample.targets)
        found = Detections(found.boxes + 1.3, found.scores, found.labels, found.masks.roll(1, 2))  # type: ignore[union-attr]
        evaluator.add(sample.info.image_id, found)
    (tmp_path / "gt.json").write_text(json.dumps(dataset.ground_truth()))
    (tmp_path / "dt.json").write_text(json.dumps(evaluator.detections()))
    again = {
        name: value
        for kind in ("bbox", "segm")
        for name, value in evaluate_files(tmp_path / "gt.json", tmp_path / "dt.json", kind).items()
    }
    assert again == evaluator.compute()


def test_difficult_objects_need_not_be_found_and_may_be_once() -> None:
    class Difficult:
        def ground_truth(self) -> dict[str, Any]:
            box = {"image_id": "a", "category_id": 1, "iscrowd": 0, "area": 400}
            return {
                "images": [{"id": "a", "height": 100, "width": 100}],
                "annotations": [
                    {**box, "id": 1, "bbox": [0, 0, 20, 20]},
                    {**box, "id": 2, "bbox": [50, 50, 20, 20], "difficult": 1},
                ],
                "categories": [{"id": 1, "name": "x"}],
            }

    def ap(boxes: list[list[float]]) -> float:
        evaluator = CocoEvaluator(Difficult())
        scores = torch.linspace(0.9, 0.1, len(boxes))
        evaluator.add(
            "a", Detections(torch.tensor(boxes), scores, torch.zeros(len(boxes), dtype=torch.int64))
        )
        return evaluator.compute()["bbox_AP"]

    plain, difficult = [0.0, 0, 20, 20], [50.0, 50, 70, 70]
    assert ap([plain]) == ap([difficult, plain]) == pytest.approx(1)
    assert ap([difficult, difficult, plain]) == pytest.approx(0.5)


def test_a_detection_that_is_not_finite_names_its_image() -> None:
    dataset = DemoDatasetConfig(num_images=2).dataset()
    broken = Detections(torch.full((1, 4), torch.nan), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(DetcfgError, match="image 1: a detection has a box or a score that is not finite"):
        CocoEvaluator(dataset).add(1, broken)


def test_an_image_counts_once() -> None:
    evaluator = CocoEvaluator(DemoDatasetConfig(num_images=2).dataset())
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    evaluator.add(0, nothing)
    with pytest.raises(ValueError, match="was added before"):
        evaluator.add(0, nothing)
    with pytest.raises(ValueError, match="is none of the dataset"):
        evaluator.add(2, nothing)
    assert evaluator.compute()["bbox_AP"] == 0


def test_its_metrics_are_known_before_anything_is_found() -> None:
    evaluator = CocoEvaluator(DemoDatasetConfig(num_images=2).dataset(with_mask=True), ("bbox", "segm"))
    assert evaluator.metrics == tuple(f"{kind}_{name}" for kind in ("bbox", "segm") for name in NAMES)
    assert list(evaluator.compute()) == list(evaluator.metrics)


def test_what_was_added_can_be_forgotten() -> None:
    dataset = DemoDatasetConfig(num_images=2).dataset()
    evaluator = CocoEvaluator(dataset)
    for _ in range(2):
        for sample in dataset:
            evaluator.add(sample.info.image_id, detections_of(sample.targets))
        assert evaluator.compute()["bbox_AP"] == pytest.approx(1)
        assert evaluator.summary() == "bbox AP 1.000 AP50 1.000"
        evaluator.clear()
        assert evaluator.detections() == []
        assert evaluator.compute()["bbox_AP"] == 0


def test_an_object_with_the_id_0_can_be_found(tmp_path: Path) -> None:
    # pycocotools reads the 0 as "no match" and gives 0.25: findings/pycocotools_annotation_id_0.sh
    boxes = [[10.0, 10.0, 40.0, 40.0], [70.0, 70.0, 40.0, 40.0]]
    entries = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)]
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "bolt"}], "annotations": entries}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps([entry | {"score": 0.9} for entry in entries]))

    assert evaluate_files(tmp_path / "gt.json", tmp_path / "dt.json")["bbox_AP"] == pytest.approx(1)
