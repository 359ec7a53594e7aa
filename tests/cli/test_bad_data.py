"""Data that is wrong: every command says where and what to do, on one screen, without a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from detcfg.engine.checkpoint import BEST, save_weights
from tests.support.coco_files import write
from tests.support.commands import Command

TINY = Path(__file__).parents[1] / "support" / "tiny.py"
Spoil: TypeAlias = Callable[[Path], object]


def change(path: Path, kind: str, index: int, **values: Any) -> None:
    data = json.loads(path.read_text())
    data[kind][index] |= values
    path.write_text(json.dumps(data))


def _cut(folder: Path) -> None:
    image = folder / "a.png"
    image.write_bytes(image.read_bytes()[:50])


SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "missing annotation file": (
        lambda f: (f / "all.json").unlink(),
        "all.json: there is no such file",
        "Correct data_root and ann_file",
    ),
    "annotation file cut off": (
        lambda f: (f / "all.json").write_text((f / "all.json").read_text()[:99]),
        "all.json: line 1, column",
        "Write the file again",
    ),
    "missing folder": (
        lambda f: (f / "all.json").rename(f.parent / "gone"),
        "all.json: there is no such file",
        "Correct data_root",
    ),
    "image listed but absent": (
        lambda f: (f / "a.png").unlink(),
        "all.json: image 10: there is no",
        "drop_invalid to true",
    ),
    "category id without a name": (
        lambda f: change(f / "all.json", "annotations", 0, category_id=5),
        "annotation 1: its category_id 5 has no name",
        "Name the category, or drop the annotation",
    ),
    "box outside its image": (
        lambda f: change(f / "all.json", "annotations", 0, bbox=[100, 100, 5, 5]),
        "annotation 1 of image 10: its bbox [100, 100, 5, 5] lies outside its image of 40x30",
        "Correct it",
    ),
    "box with NaN": (
        lambda f: change(f / "all.json", "annotations", 0, bbox=[1, float("nan"), 5, 5]),
        "annotation 1 of image 10: its bbox [1, nan, 5, 5] is not four finite numbers",
        "Correct it",
    ),
    "empty dataset": (
        lambda f: (f / "all.json").write_text(
            json.dumps({**json.loads((f / "all.json").read_text()), "images": [], "annotations": []})
        ),
        "all.json: it names no usable image",
        "needs at least one",
    ),
    "path out of the image folder": (
        lambda f: change(f / "all.json", "images", 0, file_name="../../../etc/passwd"),
        "image 10: its file_name '../../../etc/passwd' leads out of the image folder",
        "Correct the entry",
    ),
}
"""What is done to the folder, where the error says it is, and what it says to do."""


def arguments(folder: Path, *more: str) -> list[str]:
    """An experiment on the data of a folder, for training, validation and test alike."""
    return [
        word
        for split in ("data.train", "data.val")
        for word in (
            f"{split}=detcfg.data.coco:CocoDatasetConfig",
            f"{split}.data_root={folder}",
            f"{split}.ann_file=all.json",
            f"{split}.img_prefix=.",
            f'{split}.classes=["dog", "cat"]',
        )
    ] + list(more)


@pytest.fixture
def call(command: Command, tmp_path: Path) -> Callable[..., Any]:
    """Run train, eval or check on the data in `tmp_path / "data"`."""
    write(tmp_path / "data")

    def run(name: str, *more: str) -> Any:
        words = [name, str(TINY), *arguments(tmp_path / "data", *more)]
        if name == "train":
            words += ["--work-dir", str(tmp_path / "run")]
        if name == "eval":
            from detcfg.cli.arguments import configured

            file = tmp_path / BEST
            model = configured(str(TINY), arguments(tmp_path / "data")).resolved().model.build()
            save_weights(model.state_dict(), file)
            words += ["--checkpoint", str(file)]
        if name == "check":
            words += ["--images", "--height", "64", "--width", "64"]
        return command(*words)

    return run


@pytest.mark.parametrize("name", ["check", "train", "eval"])
def test_whole_data_is_taken(call: Callable[..., Any], name: str) -> None:
    torch.manual_seed(0)
    outcome = call(name, "trainer.epochs=1")
    assert 0 == outcome.code, outcome.err


@pytest.mark.parametrize("fault", SPOILT)
@pytest.mark.parametrize("name", ["check", "train", "eval"])
def test_each_command_names_the_place_and_the_remedy(
    call: Callable[..., Any], tmp_path: Path, name: str, fault: str
) -> None:
    spoil, place, remedy = SPOILT[fault]
    spoil(tmp_path / "data")
    outcome = call(name)

    assert 1 == outcome.code
    assert place in outcome.err
    assert remedy in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 24


@pytest.mark.parametrize("name", ["check", "train", "eval"])
def test_a_truncated_image_is_named_by_each_command(
    call: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    _cut(tmp_path / "data")
    outcome = call(name)

    assert 1 == outcome.code
    assert "a.png: the image is damaged" in outcome.out + outcome.err
    assert "Replace it, or leave it out" in outcome.out + outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("name", ["check", "train", "eval"])
def test_a_detector_of_no_classes_is_refused(call: Callable[..., Any], name: str) -> None:
    outcome = call(name, "data.train.classes=[]", "data.val.classes=[]")

    assert 1 == outcome.code
    assert "num_classes is 0, and a detector needs at least one class" in outcome.err
    assert "Name the classes in the dataset's `classes`" in outcome.err


def test_check_lists_every_fault_that_the_others_cut_short(call: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "data" / "all.json"
    data = json.loads(path.read_text())
    data["annotations"] += [{**data["annotations"][0], "id": 100 + i, "category_id": 5} for i in range(30)]
    path.write_text(json.dumps(data))

    assert "annotation 129" in call("check").err
    short = call("train").err
    assert "and 25 more" in short
    assert "annotation 129" not in short
