"""`detcfg evaluate-detections`: COCO's numbers of any detections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import Command
from tests.support.pycocotools import FAKE, TRUTH, needs_fake

PUBLISHED = {
    "bbox": {
        "AP": 0.5045806987,
        "AP50": 0.6969727247,
        "AP75": 0.5729816670,
        "APs": 0.5856257209,
        "APm": 0.5193996948,
        "APl": 0.5013978986,
        "AR1": 0.3868127796,
        "AR10": 0.5936795763,
        "AR100": 0.5953529829,
        "ARs": 0.6398109626,
        "ARm": 0.5664205979,
        "ARl": 0.5642905983,
    },
    "segm": {
        "AP": 0.3195452759,
        "AP50": 0.5622883973,
        "AP75": 0.2989265341,
        "APs": 0.3873740316,
        "APm": 0.3101827240,
        "APl": 0.3269339071,
        "AR1": 0.2682297226,
        "AR10": 0.4154486811,
        "AR100": 0.4168394992,
        "ARs": 0.4694498623,
        "ARm": 0.3767592267,
        "ARl": 0.3814715100,
    },
}
"""Of cocodataset/cocoapi's results/val2014_fake_eval_res.txt, with more digits."""


def found(kind: str) -> Path:
    return FAKE / f"instances_val2014_fake{kind}100_results.json"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """An image with a cat, found as it is."""
    box = {"image_id": 1, "category_id": 3, "bbox": [2, 2, 40, 40]}
    truth = {
        "images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}],
        "annotations": [{**box, "id": 1, "area": 1600, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(truth))
    dt.write_text(json.dumps([{**box, "score": 0.5}]))
    return gt, dt


@needs_fake
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_published_numbers_come_out(command: Command, kind: str) -> None:
    outcome = command("evaluate-detections", str(TRUTH), str(found(kind)), "--type", kind, "--json")

    assert 0 == outcome.code
    numbers = json.loads(outcome.out)
    classes = numbers.pop("classes")[kind]
    assert numbers == pytest.approx(
        {f"{kind}_{name}": value for name, value in PUBLISHED[kind].items()}, abs=1e-6
    )
    defined = [entry["AP"] for entry in classes.values() if entry["objects"]]
    assert sum(defined) / len(defined) == pytest.approx(PUBLISHED[kind]["AP"])


@needs_fake
def test_the_table_shows_percents_and_classes(command: Command) -> None:
    lines = command("evaluate-detections", str(TRUTH), str(found("bbox"))).out.splitlines()

    assert "AP       50.5   precision, mean over IoU 0.50 to 0.95" in lines
    assert next(line.split()[1] for line in lines if line.startswith("person ")) == "250"
    assert next(line.split()[1:] for line in lines if line.startswith("fire hydrant"))[-1] == "-"


def test_boxes_are_compared_unless_told_otherwise(command: Command, files: tuple[Path, Path]) -> None:
    outcome = command("evaluate-detections", *map(str, files), "--json")

    assert json.loads(outcome.out)["bbox_AP"] == pytest.approx(1)


def test_detections_of_other_categories_are_counted(command: Command, files: tuple[Path, Path]) -> None:
    entries = json.loads(files[1].read_text())
    files[1].write_text(json.dumps([*entries, {**entries[0], "category_id": 4}]))
    outcome = command("evaluate-detections", *map(str, files), "--json")

    assert 0 == outcome.code
    assert "1 detections are left out" in outcome.err
    assert json.loads(outcome.out)["bbox_AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("[{", "line 1, column 3: this is not json"),
        ("{}", "not a file of detections"),
        (
            '[{"image_id": 2, "category_id": 3, "score": 1, "bbox": [1, 1, 1, 1]}]',
            "image_id 2 is no image of",
        ),
        ('[{"image_id": 1, "category_id": 0, "score": 1, "bbox": [1, 1, 1, 1]}]', "among the 1 categories"),
        ('[{"image_id": 1, "category_id": 3, "score": NaN, "bbox": [1, 1, 1, 1]}]', "score nan"),
        ('[{"image_id": 1, "category_id": 3, "score": 1, "bbox": [1, 1, 1, NaN]}]', "bbox [1, 1, 1, nan]"),
        ('[{"image_id": 1, "category_id": 3, "score": 1}]', "bbox None"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    command: Command, files: tuple[Path, Path], content: str | None, says: str
) -> None:
    if content is None:
        files[1].unlink()
    else:
        files[1].write_text(content)
    outcome = command("evaluate-detections", *map(str, files))

    assert 1 == outcome.code
    assert str(files[1]) in outcome.err
    assert says in outcome.err
    assert len(outcome.err.splitlines()) <= 24
    assert "Traceback" not in outcome.err


def test_masks_cannot_be_judged_where_there_are_none(command: Command, files: tuple[Path, Path]) -> None:
    outcome = command("evaluate-detections", *map(str, files), "--type", "segm")

    assert 1 == outcome.code
    assert f"{files[0]}: annotation 1: it has no segmentation" in outcome.err


@needs_fake
def test_the_fast_way_gives_the_same_numbers(command: Command) -> None:
    pytest.importorskip("hotcoco")
    words = ("evaluate-detections", str(TRUTH), str(found("bbox")), "--json")
    default, fast = (json.loads(command(*words, *more).out) for more in ((), ("--fast",)))
    assert fast.pop("classes").keys() == default.pop("classes").keys()
    assert fast == pytest.approx(default, abs=1e-12)
