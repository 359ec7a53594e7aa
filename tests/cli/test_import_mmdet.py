"""`detcfg import-mmdet`: what it writes, what it says, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch
from safetensors import safe_open

from detcfg import load_experiment
from tests.support.commands import Command
from tests.support.small_configs import write_config


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_becomes_an_experiment_and_a_table(here: Path, command: Command) -> None:
    write_config(here, "double_head")
    outcome = command("import-mmdet", "double_head.py", "--out", "experiments/mine.py")
    assert outcome.code == 0
    experiment = load_experiment(here / "experiments" / "mine.py")
    assert experiment.data.classes == ("bolt", "nut", "washer")
    rows = outcome.out.splitlines()
    assert any(row.startswith("model.roi_head") and "carried" in row for row in rows)
    assert any("default_scope" in row and "defaulted" in row and "run.py:" in row for row in rows)
    assert "The experiment is experiments/mine.py." in outcome.out


def test_what_is_not_supported_is_a_row_with_its_place(here: Path, command: Command) -> None:
    path = write_config(here, "faster_rcnn")
    path.write_text(path.read_text() + "custom_hooks = [dict(type='Mine')]\n")
    outcome = command("import-mmdet", str(path), "--out", "mine.py")
    (row,) = [row for row in outcome.out.splitlines() if "not supported" in row]
    assert "custom_hooks.0" in row
    assert "faster_rcnn.py:3" in row


def test_an_experiment_that_is_there_is_not_written_over(here: Path, command: Command) -> None:
    write_config(here, "faster_rcnn")
    (here / "mine.py").write_text("mine")
    outcome = command("import-mmdet", "faster_rcnn.py", "--out", "mine.py")
    assert outcome.code == 1
    assert "mine.py is there already" in outcome.err
    assert (here / "mine.py").read_text() == "mine"
    assert command("import-mmdet", "faster_rcnn.py", "--out", "mine.py", "--force").code == 0
    assert (here / "mine.py").read_text() != "mine"


def test_a_checkpoint_with_its_config_is_enough(here: Path, command: Command) -> None:
    path = write_config(here, "retinanet")
    assert command("import-mmdet", str(path), "--out", "first.py").code == 0
    with torch.device("meta"):
        state = load_experiment("first.py").resolved().model.build().state_dict()
    text = "\n".join((here / name).read_text() for name in ("_base_.py", "run.py"))
    meta = {"cfg": text, "dataset_meta": {"classes": ("bolt", "nut", "washer")}}
    tensors = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in state.items()}
    torch.save({"meta": meta, "state_dict": tensors}, here / "epoch_12.pth")
    outcome = command("import-mmdet", "--checkpoint", "epoch_12.pth", "--out", "second.py")
    assert outcome.code == 0
    assert f"{len(state)} tensors matched, 0 missing, 0 unexpected, 0 mismatched" in outcome.out
    with safe_open(here / "runs" / "second" / "best.safetensors", "pt") as file:
        assert set(file.keys()) == set(state)
    saved = load_experiment(here / "runs" / "second", allow=("experiments", "second"))
    assert saved.data.classes == ("bolt", "nut", "washer")


def test_a_checkpoint_waits_until_stubs_are_filled_in(here: Path, command: Command) -> None:
    path = write_config(here, "faster_rcnn")
    path.write_text(path.read_text().replace("dict()", "dict(neck=dict(type='MyNeck'))"))
    torch.save({"state_dict": {"a": torch.zeros(1)}}, here / "x.pth")
    outcome = command("import-mmdet", str(path), "--checkpoint", "x.pth", "--out", "mine.py")
    assert outcome.code == 1
    assert "mine.py is written, with stubs for MyNeck" in outcome.err
    assert "class MyNeckConfig(NeckConfig):" in (here / "mine.py").read_text()


def test_the_survey_counts_a_folder_and_names_what_is_missing(here: Path, command: Command) -> None:
    write_config(here, "faster_rcnn")
    write_config(here, "retinanet")
    for name in ("one", "two"):
        text = "_base_ = ['_base_.py', 'run.py']\nmodel = dict(neck=dict(type='MyNeck'))\n"
        (here / f"{name}.py").write_text(text)
    (here / "bad.py").write_text("import os\nmodel = dict(type=os.name)\n")
    outcome = command("import-mmdet", "--survey", str(here))
    assert outcome.code == 0
    assert "1 refused" in outcome.out
    assert "2 components missing" in outcome.out
    row = next(row for row in outcome.out.splitlines() if row.startswith("MyNeck "))
    assert row.split()[1:3] == ["2", "2"]


BELL: Final = "\x1b[2J\x07\ud800"
"""What a terminal would take for a command, and what no encoding has."""


@pytest.mark.parametrize(
    "text",
    [
        f"model = dict(backbone=dict(_delete_=True, type={BELL!r}))",
        f"model = dict(type={BELL!r})",
        f"model = dict(neck=dict(**{{{BELL!r}: 1}}))",
        f"custom_hooks = [dict(type={BELL!r})]",
        f"x = dict(**{{{BELL!r}: 1}})\ny = x['z']",
        f"_base_ = {BELL!r}",
        f"model = dict(**{{{BELL!r}: 1}})",
    ],
)
def test_names_in_a_strangers_config_are_no_commands_to_the_terminal(
    here: Path, command: Command, text: str
) -> None:
    path = write_config(here, "faster_rcnn")
    path.write_text(path.read_text() + text)
    for arguments in ((str(path), "--out", "mine.py"), ("--survey", str(here))):
        outcome = command("import-mmdet", *arguments)
        shown = outcome.out + outcome.err
        shown.encode()
        assert shown.replace("\n", "").isprintable()
    assert not (here / "mine.py").exists() or (here / "mine.py").read_text().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give a config, or --checkpoint"),
        (("absent.py",), "cannot read"),
        (("x.py", "--survey", "."), "--survey writes nothing"),
        (("--survey", "absent"), "There is no folder absent"),
        (("--survey", "."), "no .py file in it has a `model`"),
        (("part.py",), "a part of a config"),
        (("--checkpoint", "absent.pth"), "There is no checkpoint absent.pth"),
    ],
)
def test_mistakes_are_one_message(
    here: Path, command: Command, arguments: tuple[str, ...], message: str
) -> None:
    (here / "part.py").write_text("data_root = 'x'\n")
    outcome = command("import-mmdet", *arguments)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
