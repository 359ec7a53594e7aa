"""Disks that are really full or really read-only, in a file system that a test mounts for itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--map-root-user", "--mount"]

START = """
import subprocess, sys
from pathlib import Path
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.files import RunError
from detcfg.engine.run import run_training
from detcfg.engine.trainer import Trainer
from tests.support.processes import assert_same_state
from tests.support.tiny import experiment

disk, run, other = Path(sys.argv[1]), Path(sys.argv[1], "run"), Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
given = experiment(checkpoint_interval=1, log_interval=1)
run_training(experiment(epochs=1), run)
run_training(given, other)

def refused():
    try:
        run_training(given, run, resume=True)
    except RunError as error:
        print(error)
        return str(error)
    raise SystemExit("it went on")

def whole(step):
    progress = load_training(run / LAST).progress
    assert progress["step"] == step, progress
"""
FULL = """
def fill():
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

fill()
said = refused()
assert "No space left on device" in said and "Make room" in said and "--resume" in said, said
whole(3)
(disk / "filler").unlink()
step = Trainer.step

def step_on_full_disk(trainer, batches):
    if trainer.progress.step == 4:
        fill()
    return step(trainer, batches)

Trainer.step = step_on_full_disk
said = refused()
assert "No space left on device" in said and "--resume" in said, said
whole(4)
Trainer.step = step
(disk / "filler").unlink()
"""
READ_ONLY = """
def remount(mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)

remount("ro")
said = refused()
assert "Read-only file system" in said and "--work-dir" in said, said
whole(3)
remount("rw")
"""
END = """
run_training(given, run, resume=True)
assert_same_state(run, other)
"""


def in_namespace(script: str, folder: Path) -> None:
    """Run a script that may mount, if the system lets it."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], check=False).returncode:
        pytest.skip("this system lets nobody make a namespace of their own")
    (folder / "disk").mkdir()
    command = [*NAMESPACE, sys.executable, "-c", script, str(folder / "disk"), str(folder / "other")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_stops_the_run_and_costs_no_step_that_was_saved(tmp_path: Path) -> None:
    in_namespace(START + FULL + END, tmp_path)


def test_a_read_only_disk_is_said_at_once_and_costs_nothing(tmp_path: Path) -> None:
    in_namespace(START + READ_ONLY + END, tmp_path)
