"""`detcfg predict`: pictures and JSON of what is found."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from PIL import Image

from detcfg.data.coco import CocoDatasetConfig
from detcfg.engine.checkpoint import BEST, save_experiment, save_weights
from detcfg.engine.weights import load_model
from tests.support.commands import Command
from tests.support.tiny import experiment

ALLOW = ("--allow", "tests.support.tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose weights are random, which finds things everywhere."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_experiment(experiment(), folder)
    save_weights(experiment().resolved().model.build().state_dict(), folder / BEST)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two folders with an image of the same name in each, the second one turned by its EXIF."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3)).astype(np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "cat.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "b" / "cat.jpg", exif=exif)
    return tmp_path


def test_each_image_becomes_a_picture_and_an_entry(command: Command, run: Path, pictures: Path) -> None:
    out = pictures / "out"
    given = (str(pictures / "a" / "cat.jpg"), str(pictures / "b"))
    outcome = command(
        *("predict", *given, "--checkpoint", str(run), "--out", str(out), "--score-thr", "0.1"),
        *("--format", "detailed", *ALLOW),
    )

    assert 0 == outcome.code, outcome.err
    entries = json.loads((out / "detections.json").read_text())
    assert [entry["image"] for entry in entries] == [given[0], f"{given[1]}/cat.jpg"]
    assert [(entry["height"], entry["width"]) for entry in entries] == [(48, 80), (80, 48)]
    for entry in entries:
        with Image.open(entry["picture"]) as picture:
            assert (picture.height, picture.width) == (entry["height"], entry["width"])
    assert len({entry["picture"] for entry in entries}) == 2

    model, _ = load_model(run, allow=["tests"])
    with Image.open(given[0]) as image, torch.no_grad():
        (found,) = model.predict([torch.as_tensor(np.array(image)).permute(2, 0, 1)])
    sure = found[found.scores >= 0.1]
    assert len(sure)
    assert [entry["score"] for entry in entries[0]["detections"]] == pytest.approx(sure.scores.tolist())
    x1, y1, x2, y2 = sure.boxes[0].tolist()
    assert entries[0]["detections"][0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-4)


def test_a_broken_image_is_named_and_the_others_are_done(command: Command, run: Path, pictures: Path) -> None:
    whole = pictures / "a" / "cat.jpg"
    (pictures / "a" / "ant.jpg").write_bytes(whole.read_bytes()[:700])
    outcome = command(
        *("predict", str(pictures / "a"), "--checkpoint", str(run), "--out", str(pictures / "out")),
        *("--format", "detailed", *ALLOW),
    )

    assert 1 == outcome.code
    assert f"{pictures / 'a' / 'ant.jpg'}: the image is damaged" in outcome.err
    assert [entry["image"] for entry in json.loads((pictures / "out" / "detections.json").read_text())] == [
        str(whole)
    ]


@pytest.mark.parametrize(
    ("given", "says"), [("a.jpg", "there is no such image"), (".", "there are no images")]
)
def test_images_that_are_not_there_are_an_error(
    command: Command, run: Path, tmp_path: Path, given: str, says: str
) -> None:
    outcome = command(
        "predict", str(tmp_path / given), "--checkpoint", str(run), "--out", str(tmp_path / "out"), *ALLOW
    )

    assert 1 == outcome.code
    assert str(tmp_path) in outcome.err
    assert says in outcome.err


def test_a_result_that_cannot_be_written_is_an_error(command: Command, run: Path, pictures: Path) -> None:
    (pictures / "out").write_text("a file where the folder should be")
    outcome = command(
        *("predict", str(pictures / "a"), "--checkpoint", str(run), "--out", str(pictures / "out"), *ALLOW)
    )

    assert 1 == outcome.code
    assert f"{pictures / 'out'}" in outcome.err
    assert "cannot be written" in outcome.err
    assert "Traceback" not in outcome.err


def test_half_precision_is_a_switch(command: Command, run: Path, pictures: Path) -> None:
    scores: list[list[float]] = []
    for amp in ("none", "bf16"):
        out = pictures / amp
        given = ("--checkpoint", str(run), "--out", str(out), "--score-thr", "0.1", "--amp", amp)
        assert command("predict", str(pictures / "a"), *given, "--format", "detailed", *ALLOW).code == 0
        (entry,) = json.loads((out / "detections.json").read_text())
        scores.append([found["score"] for found in entry["detections"]][:5])

    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


def predicted(command: Command, run: Path, pictures: Path, *more: str) -> list[dict[str, Any]]:
    """detections.json of the pictures of both folders."""
    out = pictures / "out"
    given = ("--checkpoint", str(run), "--out", str(out), *ALLOW)
    outcome = command("predict", str(pictures / "a"), str(pictures / "b"), *given, *more)
    assert 0 == outcome.code, outcome.err
    found: list[dict[str, Any]] = json.loads((out / "detections.json").read_text())
    return found


def annotations(pictures: Path, **values: Any) -> Path:
    """The pictures as COCO has them; their first category is the second class."""
    names = {"a/cat.jpg": (48, 80), "b\\cat.jpg": (80, 48)}
    truth = {
        "images": [
            {"id": 40 + i, "file_name": name, "height": h, "width": w}
            for i, (name, (h, w)) in enumerate(names.items())
        ],
        "annotations": [
            {"id": 1, "image_id": 40, "category_id": 3, "bbox": [2, 2, 20, 20], "area": 400, "iscrowd": 0}
        ],
        "categories": [
            {"id": 3, "name": "square"},
            {"id": 9, "name": "disc"},
            {"id": 11, "name": "triangle"},
        ],
    }
    file = pictures / "gt.json"
    file.write_text(json.dumps({**truth, **values}))
    return file


def test_results_are_cocos_with_a_table_of_their_ids(command: Command, run: Path, pictures: Path) -> None:
    classes = experiment().data.classes
    detailed = predicted(command, run, pictures, "--score-thr", "0.1", "--format", "detailed")
    assert not (pictures / "out" / "images.json").exists()
    results = predicted(command, run, pictures, "--score-thr", "0.1")
    table = json.loads((pictures / "out" / "images.json").read_text())

    assert [(i["id"], i["file_name"], i["height"], i["width"]) for i in table["images"]] == [
        (1, f"{pictures}/a/cat.jpg", 48, 80),
        (2, f"{pictures}/b/cat.jpg", 80, 48),
    ]
    assert table["categories"] == [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    names = {category["id"]: category["name"] for category in table["categories"]}
    for image, entry in zip(table["images"], detailed, strict=True):
        mine = [result for result in results if result["image_id"] == image["id"]]
        assert [names[result["category_id"]] for result in mine] == [
            f["category"] for f in entry["detections"]
        ]
        assert [result["score"] for result in mine] == [f["score"] for f in entry["detections"]]
        for result, found in zip(mine, entry["detections"], strict=True):
            assert result["bbox"] == pytest.approx(found["bbox"], abs=1e-4)


def test_results_by_annotations_are_judged_as_they_are(command: Command, run: Path, pictures: Path) -> None:
    classes = experiment().data.classes
    categories = [{"id": 20 - i, "name": name} for i, name in enumerate(classes)]
    gt = annotations(pictures, categories=categories, annotations=[])
    results = predicted(command, run, pictures, "--annotations", str(gt))
    assert not (pictures / "out" / "images.json").exists()
    assert {result["image_id"] for result in results} == {40, 41}
    assert min(result["score"] for result in results) < 0.3  # all that may count

    first = next(result for result in results if result["image_id"] == 41)
    truth = [{**first, "id": 1, "area": first["bbox"][2] * first["bbox"][3], "iscrowd": 0}]
    gt = annotations(pictures, categories=categories, annotations=truth)
    outcome = command("evaluate-detections", str(gt), str(pictures / "out" / "detections.json"), "--json")
    assert 0 == outcome.code, outcome.err
    numbers = json.loads(outcome.out)
    label = 20 - first["category_id"]
    assert numbers["classes"]["bbox"][classes[label]]["AR100"] == pytest.approx(1)

    sure = predicted(command, run, pictures, "--annotations", str(gt), "--score-thr", "0.25")
    assert sure == [result for result in results if result["score"] >= 0.25]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"images": [{"id": 1, "file_name": "other.jpg"}]}, "a/cat.jpg: .*gt.json has no image of that name"),
        (
            {"images": [{"id": i, "file_name": "cat.jpg"} for i in (1, 2)]},
            "a/cat.jpg: .*gt.json has 2 images of that name",
        ),
        (
            {"categories": [{"id": 1, "name": "dics"}]},
            "gt.json: the model's class 'disc' is no category.*'dics'",
        ),
        ({"categories": 3}, "gt.json: this is not a COCO annotation file: it has no list of categories"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(
    command: Command, run: Path, pictures: Path, values: dict[str, Any], says: str
) -> None:
    gt = annotations(pictures, **values)
    outcome = command(
        "predict",
        str(pictures / "a"),
        "--checkpoint",
        str(run),
        "--annotations",
        str(gt),
        "--out",
        "x",
        *ALLOW,
    )
    assert 1 == outcome.code
    assert re.search(says, outcome.err), outcome.err


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A run that was judged on the pictures, with settings of how to read them."""
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    classes = experiment().data.classes
    annotations(
        pictures, categories=[{"id": i, "name": name} for i, name in enumerate(classes)], annotations=[]
    )
    val = CocoDatasetConfig(data_root=str(pictures), ann_file="gt.json", img_prefix=".", classes=classes)
    changed = evolve(experiment(), data=evolve(experiment().data, val=val))
    save_experiment(changed, folder)
    save_weights(changed.resolved().model.build().state_dict(), folder / BEST)
    return folder


@pytest.mark.parametrize(
    "setting",
    ["data.val.ignore_orientation=true", "data.val.draft_size=[40, 24]", "data.val.ignore_orientation=false"],
)
def test_images_are_read_as_eval_reads_them(
    command: Command, own: Path, pictures: Path, setting: str
) -> None:
    if setting.endswith("true"):
        data = json.loads((pictures / "gt.json").read_text())
        data["images"][1].update(height=48, width=80)
        (pictures / "gt.json").write_text(json.dumps(data))
    expected = pictures / "eval.json"
    outcome = command("eval", str(own), setting, "--out", str(expected), *ALLOW)
    assert 0 == outcome.code, outcome.err
    found = predicted(command, own, pictures, "--annotations", str(pictures / "gt.json"), "--set", setting)

    assert json.loads(expected.read_text()) == found
    with Image.open(pictures / "out" / "cat_2.jpg") as picture:
        assert picture.size == ((80, 48) if setting.endswith("true") else (48, 80))


def test_the_limit_of_pixels_is_the_datasets(command: Command, own: Path, pictures: Path) -> None:
    given = ("predict", str(pictures / "a"), "--checkpoint", str(own), "--out", str(pictures / "out"), *ALLOW)
    outcome = command(*given, "--set", "data.val.max_pixels=1000")
    assert 1 == outcome.code
    assert (
        "a/cat.jpg: the image has 80x48 pixels, more than the 1000 that are read (max_pixels of the dataset). Raise"
        in outcome.err
    )
    assert 0 == command(*given, "--set", "data.val.max_pixels=4000").code


def test_a_table_has_a_row_for_each_detection(command: Command, run: Path, pictures: Path) -> None:
    detailed = predicted(command, run, pictures, "--score-thr", "0.1", "--format", "detailed")
    given = (str(pictures / "a"), "--checkpoint", str(run), "--out", str(pictures / "table"))
    assert command("predict", *given, "--score-thr", "0.1", "--format", "csv", *ALLOW).code == 0

    with (pictures / "table" / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (image,) = (entry for entry in detailed if "/a/" in entry["image"])
    assert len(rows) == len(image["detections"]) > 0
    for row, entry in zip(rows, image["detections"], strict=True):
        corners = [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
        x, y, width, height = entry["bbox"]
        assert corners == pytest.approx([x, y, x + width, y + height], abs=1e-3)
        assert (row["image"], row["image_id"], row["category"]) == (image["image"], "1", entry["category"])
        assert float(row["score"]) == pytest.approx(entry["score"])


def test_yolo_has_a_file_for_each_image_in_fractions_of_it(
    command: Command, run: Path, pictures: Path
) -> None:
    detailed = predicted(command, run, pictures, "--score-thr", "0.1", "--format", "detailed")
    given = (str(pictures / "a"), str(pictures / "b"), "--checkpoint", str(run), "--out", str(pictures / "y"))
    assert command("predict", *given, "--score-thr", "0.1", "--format", "yolo", *ALLOW).code == 0

    files = [pictures / "y" / "labels" / f"{name}.txt" for name in ("cat", "cat_2")]
    names = (pictures / "y" / "data.yaml").read_text().splitlines()[1:]
    for file, image in zip(files, detailed, strict=True):
        lines = file.read_text().splitlines()
        assert len(lines) == len(image["detections"]) > 0
        for line, entry in zip(lines, image["detections"], strict=True):
            label, cx, cy, width, height, score = map(float, line.split())
            w, h = image["width"], image["height"]
            box = [(cx - width / 2) * w, (cy - height / 2) * h, width * w, height * h]
            assert box == pytest.approx(entry["bbox"], abs=1e-2)
            assert names[int(label)] == f'  {int(label)}: "{entry["category"]}"'
            assert score == pytest.approx(entry["score"], abs=1e-5)
