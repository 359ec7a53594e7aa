"""LVIS's average precision: some classes an image, 300 detections, rare and frequent classes apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detcfg.data.errors import DataError
from detcfg.data.lvis import LVISV1DatasetConfig
from detcfg.evaluation.coco import CocoEvaluator

JUDGE = {
    **{name: name for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")},
    "AR300": "AR@300",
    "ARs": "ARs@300",
    "ARm": "ARm@300",
    "ARl": "ARl@300",
}
"""Our names in LVIS's order, and what LVIS calls the numbers."""


def random_world(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations with absent and unfinished classes; one image has more than 300 detections."""
    draw = np.random.RandomState(seed)
    categories = [{"id": 3 * k + 2, "name": f"c{k}", "frequency": "rcf"[k % 3]} for k in range(9)]
    ids = [category["id"] for category in categories]
    images, annotations, found = [], [], []
    for image in range(1, 26):
        absent = [int(number) for number in draw.choice(ids, 2, replace=False)]
        present: set[int] = set()
        for _ in range(draw.randint(0, 8)):
            place, size = draw.uniform(0, 250, 2), draw.choice([12, 50, 120]) * draw.uniform(0.5, 1.2, 2)
            category = int(draw.choice([number for number in ids if number not in absent]))
            present.add(category)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [*place.tolist(), *size.tolist()],
                    "area": float(size.prod() * 0.8),
                }
            )
            for _ in range(draw.randint(0, 5)):
                box = np.maximum(np.array([*place, *size]) + draw.normal(0, 6, 4), 1)
                label = category if draw.rand() < 0.9 else int(draw.choice(ids))
                score = round(float(draw.rand()), 2)
                found.append({"image_id": image, "category_id": label, "bbox": box.tolist(), "score": score})
        for _ in range(400 if image == 4 else draw.randint(0, 10)):
            box = [*draw.uniform(0, 250, 2).tolist(), *draw.uniform(5, 150, 2).tolist()]
            label, score = int(draw.choice(ids)), float(draw.rand())
            found.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
        images.append(
            {
                "id": image,
                "height": 300,
                "width": 400,
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": [c for c in present if draw.rand() < 0.3],
            }
        )
    return {"images": images, "annotations": annotations, "categories": categories}, found


def numbers(folder: Path, truth: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, float]:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "dt.json").write_text(json.dumps(found))
    return CocoEvaluator.from_files(folder / "gt.json", folder / "dt.json", "bbox").compute()


@pytest.mark.parametrize("seed", range(6))
def test_the_numbers_equal_those_of_another_program(tmp_path: Path, seed: int) -> None:
    hotcoco = pytest.importorskip("hotcoco")
    truth, found = random_world(seed)
    objects = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(objects, objects.loadRes(found), "bbox", lvis_style=True)
    evaluation.run()
    judged = evaluation.get_results()
    ours = numbers(tmp_path, truth, found)
    assert list(ours) == [f"bbox_{name}" for name in JUDGE]
    assert list(ours.values()) == pytest.approx([judged[name] for name in JUDGE.values()], abs=1e-9)


def test_only_classes_that_an_image_was_looked_through_for_count(tmp_path: Path) -> None:
    box = {"image_id": 1, "bbox": [0, 0, 40, 40]}

    def ap(wrong: int, *, unfinished: tuple[int, ...] = ()) -> float:
        truth = {
            "images": [
                {
                    "id": 1,
                    "height": 99,
                    "width": 99,
                    "neg_category_ids": [2],
                    "not_exhaustive_category_ids": list(unfinished),
                }
            ],
            "annotations": [
                {**box, "id": 1, "category_id": 1, "area": 1600},
                {**box, "id": 2, "category_id": 2, "area": 1600, "bbox": [9, 9, 9, 9]},
            ][: 1 if wrong != 2 else 2],
            "categories": [{"id": i, "name": str(i), "frequency": "f"} for i in (1, 2, 3)],
        }
        false = {**box, "bbox": [50, 50, 20, 20], "category_id": wrong, "score": 0.9}
        return numbers(tmp_path, truth, [false, {**box, "category_id": 1, "score": 0.5}])["bbox_AP"]

    assert ap(1) == pytest.approx(0.5)  # a false alarm of a class that is annotated
    assert ap(1, unfinished=(1,)) == pytest.approx(1)  # it may be an object that nobody annotated
    assert ap(3) == pytest.approx(1)  # nobody looked whether there is one
    assert ap(2) == pytest.approx(0.5)  # known not to be there, so the class's AP is 0


def test_the_dataset_finds_its_images_by_their_address(tmp_path: Path) -> None:
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "train2017" / "1.png")
    image = {
        "id": 1,
        "coco_url": "http://images.cocodataset.org/train2017/1.png",
        "width": 40,
        "height": 30,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
    }
    thing = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 9, 9], "area": 81}
    data = {
        "images": [image],
        "annotations": [thing],
        "categories": [{"id": 5, "name": "aerosol_can", "frequency": "c"}],
    }
    config = LVISV1DatasetConfig(data_root=str(tmp_path), ann_file="all.json", classes=("aerosol_can",))
    (tmp_path / "all.json").write_text(json.dumps(data))
    dataset = config.dataset()
    assert dataset[0].targets.labels.tolist() == [0]
    evaluator = CocoEvaluator(dataset)
    assert evaluator.metrics == tuple(f"bbox_{name}" for name in JUDGE)
    assert list(evaluator.compute()) == list(evaluator.metrics)
    image["coco_url"] = "http://images.cocodataset.org/../../etc/passwd"
    (tmp_path / "all.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="leads out of the image folder"):
        config.dataset()


def test_all_of_its_classes_have_names_of_their_own() -> None:
    classes = LVISV1DatasetConfig().resolved().classes
    assert len(classes) == len(set(classes)) == 1203
    assert (classes[0], classes[-1]) == ("aerosol_can", "zucchini")
