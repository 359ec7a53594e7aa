"""What a config from a stranger could try is refused by file:line, without effect and at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detcfg.cli.main import run
from detcfg.interop.mmdet.data import ReadError
from detcfg.interop.mmdet.read import read_config
from tests.support.attacks import ATTACKS, make_folder, write_attack


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path)
    monkeypatch.chdir(folder)
    path = write_attack(folder, name)
    before = {file: file.lstat().st_mtime for file in folder.parent.rglob("*")}
    with pytest.raises(ReadError) as caught:
        read_config(path, config_root=folder)
    message = str(caught.value)
    file = re.match(r"(.+?\.(?:py|json)):\d+: ", message)
    assert file is not None
    assert Path(file[1]).is_file()
    assert len(message) < 1000
    assert "'secret'" not in message
    assert {file: file.lstat().st_mtime for file in folder.parent.rglob("*")} == before


def test_no_attack_costs_a_second_or_much_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.attacks"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["seconds"] < 1, found
    assert found["bytes"] < 400 * 2**20, found


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = make_folder(tmp_path) / {"a pipe": "pipe.py", "a folder": "folder.py", "a device": "zero.py"}[kind]
    with pytest.raises(ReadError, match="is not a file"):
        read_config(path)


def test_a_command_says_why_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_attack(make_folder(tmp_path), "import os")
    with pytest.raises(SystemExit) as caught:
        run(["import-mmdet", str(path), "--out", str(tmp_path / "out.py")])
    assert caught.value.code == 1
    said = capsys.readouterr()
    assert f"{path}:1: " in said.err
    assert "Traceback" not in said.out + said.err
    assert not (tmp_path / "out.py").exists()


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("x = [" + "1," * 2**20 + "]")
    with pytest.raises(ReadError, match="bytes"):
        read_config(path)


def test_a_list_of_thirteen_thousand_classes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    classes = [f"class number {index}" for index in range(13_000)]
    path.write_text(
        f"classes = {classes}\ntrain = dict(classes=classes)\nval = dict(classes=classes)\ntest = val"
    )
    assert read_config(path).data["test"]["classes"] == classes
