"""Datasets made of others: several as one, and rare classes shown more often."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attrs import evolve

from detcfg.config import ConfigError
from detcfg.data.concat import ConcatDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.oversampled import Oversampled
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.structures import Detections
from tests.support.coco_files import Data, write


def all_to_find(data: Data) -> None:
    """Without the object that is not learnt."""
    data["annotations"] = [a for a in data["annotations"] if not a.get("ignore")]


def other_ids(data: Data) -> None:
    """The same objects under other numbers."""
    all_to_find(data)
    new = {category["id"]: 100 - category["id"] for category in data["categories"]}
    for category in data["categories"]:
        category["id"] = new[category["id"]]
    for annotation in data["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]


def both(tmp_path: Path) -> ConcatDatasetConfig:
    first, second = write(tmp_path / "a", all_to_find), write(tmp_path / "b", other_ids, filter_empty_gt=True)
    return ConcatDatasetConfig(classes=first.classes, datasets=(first, second))


def test_datasets_follow_each_other(tmp_path: Path) -> None:
    config = both(tmp_path).resolved()
    whole, parts = config.dataset(), [inner.dataset() for inner in config.datasets]
    assert len(whole) == len(parts[0]) + len(parts[1]) == 5
    samples = [part[index] for part in parts for index in range(len(part))]
    for index, (found, wanted) in enumerate(zip(whole, samples, strict=True)):
        assert torch.equal(found.image, wanted.image)
        assert torch.equal(found.targets.boxes, wanted.targets.boxes)
        assert torch.equal(whole.targets(index).labels, wanted.targets.labels)
        assert whole.info(index) == found.info
        assert whole.info(index).path == wanted.info.path
    with pytest.raises(IndexError):
        whole[5]


def test_what_is_found_in_several_datasets_is_judged_together(tmp_path: Path) -> None:
    whole = both(tmp_path).resolved().dataset()
    evaluator = CocoEvaluator(whole)
    for index in range(len(whole)):
        learnt = whole.targets(index).not_ignored
        right = Detections(learnt.boxes, torch.ones(len(learnt)), learnt.labels, None)
        evaluator.add(whole.info(index).image_id, right)
    assert evaluator.compute()["bbox_AP"] == pytest.approx(1)
    assert len({image["id"] for image in whole.ground_truth()["images"]}) == len(whole)


@pytest.mark.parametrize("names", [("cat", "dog"), ("dog",)])
def test_datasets_of_other_classes_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    config = both(tmp_path)
    mixed = evolve(config, datasets=(config.datasets[0], evolve(config.datasets[1], classes=names)))
    with pytest.raises(ConfigError, match=r"datasets\.1\.classes"):
        mixed.resolved()


def test_no_datasets_are_refused() -> None:
    with pytest.raises(ConfigError, match="datasets is empty"):
        ConcatDatasetConfig(classes=("a",), datasets=()).resolved()


def test_an_image_comes_as_often_as_its_rarest_class_asks(tmp_path: Path) -> None:
    dataset = write(tmp_path).dataset()  # dog in one of three images, cat in two, the last is empty
    found = Oversampled(dataset, 0.9)
    ids = [found.info(index).image_id for index in range(len(found))]
    assert ids == [10, 10, 20, 20, 30]  # sqrt(0.9 * 3) and sqrt(0.9 * 3 / 2) rounded up, once
    assert [found[index].info for index in range(len(found))] == [found.info(i) for i in range(len(found))]
    assert len(Oversampled(dataset, 0.3)) == len(dataset)
    assert [Oversampled(dataset, 0.6).info(i).image_id for i in range(4)] == [10, 10, 20, 30]


def test_rare_classes_come_more_often_in_training_alone() -> None:
    demo = DemoDatasetConfig(num_images=12)
    plain = DataConfig(train=demo, val=demo, batch_size=1, num_workers=0)
    often = evolve(plain, oversample_thr=1.0).resolved()
    assert len(often.train_loader()) > len(plain.resolved().train_loader()) == 12
    assert len(often.eval_loader("train")) == len(often.val_loader()) == 12
