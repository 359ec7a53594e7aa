"""`detcfg predict`: pictures and JSON of what is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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
        "predict", *given, "--checkpoint", str(run), "--out", str(out), "--score-thr", "0.1", *ALLOW
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
        "predict", str(pictures / "a"), "--checkpoint", str(run), "--out", str(pictures / "out"), *ALLOW
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
        assert command("predict", str(pictures / "a"), *given, *ALLOW).code == 0
        (entry,) = json.loads((out / "detections.json").read_text())
        scores.append([found["score"] for found in entry["detections"]][:5])

    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
