"""The command as a whole: quick to answer, and short where the user is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import detcfg
from tests.support.commands import Command

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )


def imported(*arguments: str) -> set[str]:
    """The modules that a new process imports. How long that takes is for `detcfg benchmark --only start-up`."""
    lines = python("-X", "importtime", *arguments).stderr.splitlines()
    return {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_no_torch_and_little_else(option: str) -> None:
    modules = imported("-m", "detcfg", option)

    assert "typer" in modules
    assert not {"torch", "torchvision", "numpy", "PIL", "pycocotools", "cattrs"} & modules
    assert len({module for module in modules if module.startswith("detcfg")}) < 40


def test_version_is_the_packages(command: Command) -> None:
    assert f"detcfg {detcfg.__version__}\n" == command("--version").out


@pytest.mark.parametrize(("variables", "dismantled"), [({}, True), ({"WORLD_SIZE": "1"}, False)])
def test_one_of_several_processes_ends_without_dismantling_its_interpreter(
    variables: dict[str, str], *, dismantled: bool
) -> None:
    code = "import atexit, sys; atexit.register(print, 'the end'); from detcfg.cli.main import run; run(sys.argv[1:])"
    for arguments, exit_code in ((["--version"], 0), (["check", "nowhere.py"], 1), (["--nonsense"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == exit_code
        assert ("the end" in done.stdout) == dismantled
        assert done.stderr if exit_code else detcfg.__version__ in done.stdout


def test_every_command_says_what_it_does(command: Command) -> None:
    listing = command("--help").out.partition("Commands:")[2].strip()
    names = [line.split()[0] for line in listing.splitlines()]

    assert {"show-config", "check", "list"} <= set(names)
    for name in names:
        shown = command(name, "--help")
        assert 0 == shown.code
        assert "Usage:" in shown.out


def test_showing_a_config_imports_little_besides_torch_and_no_torchvision() -> None:
    torchs = imported("-c", "import torch")
    others = imported("-m", "detcfg", "show-config", "experiments/double_head.py") - torchs
    packages = {module.partition(".")[0] for module in others}

    assert "detcfg" in packages
    assert not {"torchvision", "PIL", "pycocotools", "scipy", "tensorboard"} & packages


MISTAKES = [
    (("show-config", "double_hed"), "Did you mean 'double_head'?"),
    (("show-config", "nowhere/double_head.py"), "There is no file"),
    (("show-config", "nowhere/unlike_all.py"), "unlike_all.py. Correct the path."),
    (
        ("show-config", "double_head", "model.roi_head.reg_roi_scale=3"),
        "Did you mean 'reg_roi_scale_factor'?",
    ),
    (
        ("show-config", "double_head", "model.roi_head.reg_roi_scale_factor=wide"),
        "must be float above 0, not 'wide'",
    ),
    (("show-config", "double_head", "model.neck=detcfg.losses.l1:L1LossConfig"), "is not a NeckConfig"),
    (("show-config", "double_head", "model.roi_head.bbox_head.in_channels=512"), "makes it 256"),
    (("show-config", "double_head", "model.neck"), "Expected path=value"),
    (("check", "double_head", "model.num_classes=79"), "data.train.classes makes it 80"),
    (("list", "backbones"), "Did you mean 'backbone'?"),
    (("list", "--module", "no_such_module"), "There is no module 'no_such_module'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_short_message_and_exit_code_1(
    arguments: tuple[str, ...], message: str, command: Command
) -> None:
    outcome = command(*arguments)

    assert 1 == outcome.code
    assert message in outcome.err
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) < 25
    assert "Traceback" not in outcome.err
    assert not outcome.out


def test_a_broken_experiment_file_is_shown_at_its_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("from attrs import frozen\n\nclass Experiment(:\n")
    (tmp_path / "empty.py").write_text("VALUE = 1\n")

    assert "broken.py:3: invalid syntax" in command("show-config", str(tmp_path / "broken.py")).err
    assert "defines no class `Experiment`" in command("show-config", str(tmp_path / "empty.py")).err
