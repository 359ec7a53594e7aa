"""The page on data of one's own: its experiments and commands run as they stand, on pictures of each format."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from detcfg.cli.main import app

PAGE = (Path(__file__).parents[2] / "detcfg" / "docs" / "own_data.md").read_text()
BLOCKS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, flags=re.DOTALL))
COMMANDS = re.findall(r"^\$ detcfg (.*)$", PAGE, flags=re.MULTILINE)
NAMES = ("cat", "dog")
SIZE = (64, 48)
BOXES = ((8, 8, 24, 16), (32, 16, 24, 24))
"""The objects of each picture, a cat and a dog: left, top, width and height in pixels."""


def write_coco(folder: Path) -> None:
    picture(folder / "images" / "a.png")
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": 1 + label, "name": name} for label, name in enumerate(NAMES)],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, box in enumerate(BOXES, 1)
        ],
    }
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(data))


def write_voc(folder: Path) -> None:
    picture(folder / "JPEGImages" / "a.jpg")
    (folder / "Annotations").mkdir()
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>"
        for name, (x, y, w, h) in zip(NAMES, BOXES, strict=True)
    )
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("a\n")


def write_yolo(folder: Path) -> None:
    rows = "\n".join(
        f"{n} {(x + w / 2) / SIZE[0]} {(y + h / 2) / SIZE[1]} {w / SIZE[0]} {h / SIZE[1]}"
        for n, (x, y, w, h) in enumerate(BOXES)
    )
    for split in ("train", "val"):
        picture(folder / "images" / split / "a.png")
        (folder / "labels" / split).mkdir(parents=True)
        (folder / "labels" / split / "a.txt").write_text(rows)
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 120, 60)).save(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in BLOCKS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in BLOCKS:
        sys.modules.pop(name, None)


def test_each_command_of_the_page_belongs_to_a_format() -> None:
    named = [command for command in COMMANDS if re.search(r"my_(coco|voc|yolo)\b", command)]

    assert COMMANDS == named
    assert {"my_coco", "my_voc", "my_yolo"} == set(BLOCKS)


@pytest.mark.parametrize(("name", "write"), [("coco", write_coco), ("voc", write_voc), ("yolo", write_yolo)])
def test_the_commands_go_from_pictures_to_ap(name: str, write: Callable[[Path], None], folder: Path) -> None:
    write(folder / f"my_{name}")
    said: dict[str, str] = {}
    for command in COMMANDS:
        if f"my_{name}" in command:
            done = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
            assert 0 == done.exit_code, (command, done.output)
            said[command.split()[0]] = done.output

    assert "2 objects to learn" in said["check"]
    assert "AP" in said["eval"]
