"""One's own data at the command line: what is learned from is said, and nothing to learn is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detcfg.engine.checkpoint import BEST, save_experiment, save_weights
from tests.cli.conftest import Command
from tests.cli.test_bad_data import TINY, arguments
from tests.support.coco_files import Data, Spoil, write

SMALL = ("--height", "64", "--width", "64")


def crowds(data: Data) -> None:
    """As CVAT and Datumaro write bitmaps."""
    for annotation in data["annotations"]:
        annotation.update(iscrowd=1, ignore=0)


def fractions(data: Data) -> None:
    for annotation in data["annotations"]:
        annotation["bbox"] = [0.1, 0.1, 0.3, 0.25]


NOTHING: dict[str, tuple[Spoil, str]] = {
    "no annotations": (lambda data: data["annotations"].clear(), "it annotates none"),
    "crowds": (
        crowds,
        "5 crowd, such as annotation 1. Write iscrowd 0 for single objects: CVAT and Datumaro",
    ),
    "fractions": (fractions, "5 with boxes in fractions of the image (0 to 1), such as annotation 1."),
}


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("what", ["check", "train"])
def test_nothing_to_learn_is_an_error_of_train_and_check(
    command: Command, tmp_path: Path, what: str, name: str
) -> None:
    spoil, says = NOTHING[name]
    write(tmp_path, spoil)
    more = ("--work-dir", str(tmp_path / "run")) if what == "train" else SMALL
    outcome = command(what, str(TINY), *arguments(tmp_path), *more)

    assert 1 == outcome.code
    assert f"error: data.train: {tmp_path}/all.json: there is no object to learn: {says}" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["0", "False", 0.0, ""])
def test_flags_as_texts_do_not_hide_the_objects(command: Command, tmp_path: Path, value: object) -> None:
    def spoil(data: Data) -> None:
        for annotation in data["annotations"]:
            annotation.update(iscrowd=value, ignore=value)

    write(tmp_path, spoil)
    outcome = command("check", str(TINY), *arguments(tmp_path), *SMALL)
    assert 0 == outcome.code
    assert "data.train: 3 images (1 without objects), 5 objects to learn, 0 ignored, 0 dropped" in outcome.out


def test_a_training_begins_with_what_it_learns_from_and_for_how_long(
    command: Command, tmp_path: Path
) -> None:
    write(tmp_path, lambda data: data["annotations"][1].update(bbox=[20, 15, 35, 25]))
    more = ("trainer.epochs=1", "trainer.schedule.warmup_iters=100", "--work-dir", str(tmp_path / "run"))
    outcome = command("train", str(TINY), *arguments(tmp_path, *more))

    assert 0 == outcome.code, outcome.err
    first, far, val, again, steps, warm, *_ = outcome.out.splitlines()
    assert first.startswith(
        "data.train: 3 images (1 without objects), 3 objects to learn, 1 ignored (1 crowd"
    )
    assert first.endswith("1 dropped (1 marked by ignore, such as annotation 5)")
    assert far.startswith("warning: data.train: 1 box leaves its image by far (up to 15 pixels).")
    assert val == first.replace("data.train", "data.val")
    assert again == far.replace("data.train", "data.val")
    assert steps.startswith("cpu: ")
    assert steps.endswith("steps in 1 epochs")
    assert warm.startswith("warning: the warm-up takes 100 steps and the training has ")


def test_an_evaluation_begins_with_what_it_judges_by(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write(tmp_path / "data", crowds)
    from detcfg.cli.arguments import configured

    config = configured(str(TINY), arguments(tmp_path / "data"))
    torch.manual_seed(0)
    save_experiment(config, run)
    save_weights(config.resolved().model.build().state_dict(), run / BEST)
    outcome = command("eval", str(run), "--json", "--allow", "tests")

    assert 0 == outcome.code, outcome.err
    assert outcome.err.startswith(
        "data.test: 3 images (1 without objects), 0 objects to learn, 5 ignored (5 crowd"
    )
    assert f"warning: data.test: {tmp_path}/data/all.json: there is no object to learn" in outcome.err
    assert json.loads(outcome.out)["bbox_AP"] == -1


def test_check_reads_the_masks_that_training_will_read(command: Command, tmp_path: Path) -> None:
    def boxes_alone(data: Data) -> None:
        for annotation in data["annotations"]:
            annotation["segmentation"] = []

    write(tmp_path / "none", boxes_alone)
    outcome = command("check", str(TINY), *arguments(tmp_path / "none", "data.with_mask=true"), *SMALL)
    assert 1 == outcome.code
    assert "with_mask is true, and none of its 4 objects has a mask (segmentation)" in outcome.err

    write(tmp_path / "odd", lambda data: data["annotations"][0].update(segmentation=[[1, 2, 3]]))
    outcome = command("check", str(TINY), *arguments(tmp_path / "odd", "data.with_mask=true"), *SMALL)
    assert 1 == outcome.code
    assert "annotation 1 of image 10: its polygon has an x without a y" in outcome.err
    assert 0 == command("check", str(TINY), *arguments(tmp_path / "odd"), *SMALL).code

    write(tmp_path / "far", lambda data: data["annotations"][0].update(segmentation=[[50, 2, 60, 2, 60, 9]]))
    outcome = command("check", str(TINY), *arguments(tmp_path / "far", "data.with_mask=true"), *SMALL)
    assert 0 == outcome.code
    assert "2 objects to learn, 2 ignored (1 crowd, such as annotation 4; 1 without a mask" in outcome.out
    assert "annotation 1 of image 10: its segmentation covers no pixel of the image" in outcome.out


def test_check_of_images_names_each_file_once(command: Command, tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        del data
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (40, 30)).save(tmp_path / "a.png", exif=exif)
        Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)).save(tmp_path / "c.png")

    write(tmp_path, spoil)
    outcome = command("check", str(TINY), *arguments(tmp_path), "--images", *SMALL)
    assert 1 == outcome.code
    assert (
        f"  {tmp_path}/a.png: image 10 has 30x40 pixels, but its annotation says 40x30, so its boxes would be "
        "misplaced. Correct the annotation, or set ignore_orientation to true if the image carries an EXIF "
        "orientation.\n" in outcome.out
    )
    deep = f"  {tmp_path}/c.png: its 16 bits a pixel hold 1,200 shades up to 1,199, of which the upper 8 bits leave 5."
    assert f"{deep} Convert it to 8 bits, stretched from 0 to 255.\n" in outcome.out

    turned = ("data.train.ignore_orientation=true", "data.val.ignore_orientation=true")
    outcome = command("check", str(TINY), *arguments(tmp_path, *turned), "--images", *SMALL)
    assert 0 == outcome.code
    assert deep in outcome.out


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two images with a plate, found as they are."""
    box = {"category_id": 0, "bbox": [20.0, 15.0, 40.0, 30.0]}
    truth: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (7, 8)],
        "annotations": [{**box, "id": i, "image_id": i, "area": 1200.0, "iscrowd": 0} for i in (7, 8)],
        "categories": [{"id": 0, "name": "plate", "supercategory": None}],
    }
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(truth))
    dt.write_text(json.dumps([{**box, "image_id": i, "score": 0.9} for i in (7, 8)]))
    return gt, dt


def change(path: Path, **values: Any) -> None:
    data = json.loads(path.read_text())
    for entry in data["annotations"] if isinstance(data, dict) else data:
        entry.update(values)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "values",
    [
        {"difficult": "0", "segmented": "0", "truncated": "0", "segmentation": None},
        {"difficult": 1},
        {"iscrowd": "0"},
        {"iscrowd": 0.0, "category_id": 0.0},
    ],
)
def test_what_pylabel_writes_is_judged_as_coco_does(
    command: Command, files: tuple[Path, Path], values: dict[str, Any]
) -> None:
    change(files[0], **values)
    outcome = command("evaluate-detections", *map(str, files), "--json")
    assert 0 == outcome.code, outcome.err
    assert json.loads(outcome.out)["bbox_AP"] == pytest.approx(1)


def test_detections_with_ids_of_whole_floats_are_taken(command: Command, files: tuple[Path, Path]) -> None:
    change(files[1], category_id=0.0)
    entries = json.loads(files[1].read_text())
    files[1].write_text(json.dumps([{**entry, "image_id": float(entry["image_id"])} for entry in entries]))
    outcome = command("evaluate-detections", *map(str, files), "--json")
    assert json.loads(outcome.out)["bbox_AP"] == pytest.approx(1)


@pytest.mark.parametrize(("side", "name"), [(0, "annotation 7"), (1, "detection 0 of the list")])
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_id_that_is_a_text_is_named_as_one(
    command: Command, files: tuple[Path, Path], side: int, name: str, key: str
) -> None:
    change(files[side], **{key: "7" if key == "image_id" else "0"})
    outcome = command("evaluate-detections", *map(str, files))
    assert 1 == outcome.code
    number = "7" if key == "image_id" else "0"
    assert (
        f"{files[side]}: {name}: its {key} is the text '{number}', and should be the number {number}"
        in outcome.err
    )


@pytest.mark.parametrize("segmentation", [None, []])
def test_masks_are_not_compared_where_there_are_none(
    command: Command, files: tuple[Path, Path], segmentation: object
) -> None:
    change(files[0], segmentation=segmentation)
    change(files[1], segmentation=[[20, 15, 60, 15, 60, 45, 20, 45]])
    outcome = command("evaluate-detections", *map(str, files), "--type", "segm")
    assert 1 == outcome.code
    assert (
        "annotation 7: it has no segmentation, as none of the 2 annotations has. Compare boxes" in outcome.err
    )


def test_masks_that_some_annotations_lack_are_counted(command: Command, files: tuple[Path, Path]) -> None:
    square = [[20, 15, 60, 15, 60, 45, 20, 45]]
    change(files[0], segmentation=square)
    change(files[1], segmentation=square)
    data = json.loads(files[0].read_text())
    data["annotations"][0]["segmentation"] = []
    files[0].write_text(json.dumps(data))
    outcome = command("evaluate-detections", *map(str, files), "--type", "segm", "--json")
    assert "1 annotations have no mask, and so cannot be found" in outcome.err
    assert json.loads(outcome.out)["segm_AR100"] == pytest.approx(0.5)


def test_panoptic_annotations_are_named_as_such(command: Command, files: tuple[Path, Path]) -> None:
    change(files[0], segments_info=[])
    outcome = command("evaluate-detections", *map(str, files))
    assert 1 == outcome.code
    assert f"{files[0]}: these are annotations in COCO's panoptic format" in outcome.err
