"""`detcfg upgrade` shows what it would rewrite, and writes that alone."""

from __future__ import annotations

import stat
from io import StringIO
from pathlib import Path

import pytest

from detcfg.config import ConfigError
from detcfg.config.load import upgrade
from tests.cli.conftest import Command

OLD = "import detcfg.engine.ema as ema  # é\r\nX = ema.EMAConfig\r\n".encode()
NEW = OLD.replace(b"engine", b"recipe")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_bytes(OLD)
    return path


def test_it_shows_the_diff_and_asks(file: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    outcome = command("upgrade", str(file))

    assert 0 == outcome.code
    assert "\n-import detcfg.engine.ema as ema  # é\n+import detcfg.recipe.ema as ema  # é\n" in outcome.out
    assert "Rewrite 1 file? [y/N]: 1 file rewritten.\n" in outcome.out
    assert file.read_bytes() == NEW
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_no_leaves_the_file_as_it_was(
    file: Path, command: Command, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(answer))

    assert 1 == command("upgrade", str(file)).code
    assert file.read_bytes() == OLD


def test_check_writes_nothing_and_says_by_its_exit_code_whether_there_is_something(
    file: Path, command: Command
) -> None:
    outcome = command("upgrade", "--check", str(file))

    assert 1 == outcome.code
    assert outcome.out.endswith("1 file would be rewritten.\n")
    assert file.read_bytes() == OLD
    assert 0 == command("upgrade", "--yes", str(file)).code
    assert "There is nothing to rewrite.\n" == command("upgrade", "--check", str(file)).out
    assert 0 == command("upgrade", "--check", str(file)).code


def test_several_files_are_rewritten_together_or_none_is(file: Path, command: Command) -> None:
    (file.parent / "broken.py").write_text("import (\n")
    (file.parent / "fine.py").write_text("import os\n")
    outcome = command("upgrade", "--yes", str(file), str(file.parent / "broken.py"))

    assert "broken.py:1: " in outcome.err
    assert file.read_bytes() == OLD
    assert command("upgrade", "--yes", str(file), str(file.parent / "fine.py")).out.endswith(
        "1 file rewritten.\n"
    )
    assert file.read_bytes() == NEW


def test_what_is_left_to_the_person_is_said_with_its_line(file: Path, command: Command) -> None:
    file.write_text('\nHEAD = "detcfg.heads.rpn_head:RPNHeadConfig"\n')
    outcome = command("upgrade", str(file))

    assert 0 == outcome.code
    assert f"{file}:2: " in outcome.out
    assert "detcfg.heads.proposal.rpn_head:RPNHeadConfig" in outcome.out


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"x = '\xff'", "invalid or missing encoding declaration"),
        (b"import a\n\0", "null byte"),
        (b"# coding: none\n", "unknown encoding"),
        (b"# coding: utf-7\n+AGEAYg-", "is not quite utf-7"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_python_file_is_refused(tmp_path: Path, data: bytes | None, says: str) -> None:
    path = tmp_path / "mine.py"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(ConfigError, match=says) as error:
        upgrade(path)
    assert str(path) in str(error.value)


def test_a_saved_run_needs_no_upgrade(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is loaded as it is"):
        upgrade(tmp_path / "experiment.json")


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffimport detcfg.engine.ema\n".encode(),
        b"# coding: latin-1\nimport detcfg.engine.ema  # \xe9\n",
        b"import detcfg.engine.ema  # no end of line",
        b"'''\x0c\r\n'''\rimport detcfg.engine.ema\r",
    ],
)
def test_every_byte_beside_the_import_stays(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(data)
    path.chmod(0o640)
    (tmp_path / "link.py").symlink_to(path)
    upgrade(tmp_path / "link.py").write()

    assert path.read_bytes() == data.replace(b"engine", b"recipe")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "link.py").is_symlink()


def test_a_file_that_has_changed_since_it_was_read_is_left_alone(file: Path) -> None:
    found = upgrade(file)
    file.write_text("import os\n")

    with pytest.raises(ConfigError, match="has changed since it was read"):
        found.write()
    assert file.read_text() == "import os\n"


def test_a_persons_own_module_of_the_name_of_a_shipped_experiment_stays(tmp_path: Path) -> None:
    own = tmp_path / "experiments"
    own.mkdir()
    (own / "atss.py").touch()
    (own / "mine.py").write_text("from experiments import atss, fcos\n")

    assert (
        upgrade(own / "mine.py").after
        == "from experiments import atss\nfrom detcfg.experiments import fcos\n"
    )
