"""A part of any dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from detcfg.config import ConfigError
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.errors import DataError
from detcfg.data.subset import SubsetDatasetConfig
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.structures import Detections
from tests.support.coco_files import write

DEMO = DemoDatasetConfig(num_images=20, image_size=(32, 32))


def chosen(**values: Any) -> list[object]:
    dataset = SubsetDatasetConfig(of=DEMO, classes=DEMO.classes, **values).dataset()
    return [dataset.info(index).image_id for index in range(len(dataset))]


def test_the_first_images_are_taken_or_all() -> None:
    whole = DEMO.dataset()
    ids = [whole.info(index).image_id for index in range(20)]

    assert chosen(first=3) == ids[:3]
    assert chosen(first=30) == chosen(random=30) == ids


def test_the_seed_alone_draws_and_more_images_keep_those_of_fewer() -> None:
    assert chosen(random=5) == chosen(random=5) != chosen(random=5, seed=1)
    assert set(chosen(random=5)) < set(chosen(random=9))
    assert len(chosen(random=9)) == 9


def test_images_are_named_by_id() -> None:
    third, first = chosen(first=3)[2], chosen(first=3)[0]

    assert chosen(ids=(third, first)) == [first, third]
    with pytest.raises(
        DataError, match=r"ids names 'nowhere', which is no image that is read. Its ids are such as"
    ):
        chosen(ids=("nowhere",))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "none of first, random and ids is given"),
        ({"first": 1, "random": 1}, "first and random is given"),
        ({"ids": (1, 1)}, "ids names 1 more than once"),
        ({"first": 1, "of": evolve(DEMO, classes=("other",))}, "of.classes 1 or others"),
    ],
)
def test_a_choice_that_is_none_is_refused(values: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"of": DEMO, "classes": DEMO.classes} | values
    with pytest.raises(ConfigError, match=says):
        SubsetDatasetConfig(**given).resolved()


def test_all_that_is_said_of_it_is_of_the_part_alone(tmp_path: Path) -> None:
    config = write(tmp_path)
    whole = config.dataset()
    last = len(whole) - 1
    dataset = SubsetDatasetConfig(
        of=config, classes=config.classes, ids=(whole.info(last).image_id,)
    ).dataset()

    assert torch.equal(dataset[0].image, whole[last].image)
    objects = dataset.annotations()
    assert objects.boxes.tolist() == dataset.targets(0).boxes.tolist() == whole.targets(last).boxes.tolist()
    assert objects.images.tolist() == [0] * len(objects.boxes)
    assert objects.sizes.tolist() == [list(whole.info(last).size)]
    truth = dataset.ground_truth()
    assert [image["id"] for image in truth["images"]] == [whole.info(last).image_id]
    assert {a["image_id"] for a in truth["annotations"]} <= {whole.info(last).image_id}


def test_it_is_judged_by_its_own_images() -> None:
    dataset = SubsetDatasetConfig(of=DEMO, classes=DEMO.classes, random=4).dataset()
    evaluator = CocoEvaluator(dataset)
    for sample in dataset:
        targets = sample.targets
        found = Detections(boxes=targets.boxes, scores=torch.ones(len(targets)), labels=targets.labels)
        evaluator.add(sample.info.image_id, found)

    assert evaluator.compute()["bbox_AP"] == pytest.approx(1)
