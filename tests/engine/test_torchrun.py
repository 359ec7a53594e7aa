"""torchrun on one machine and on two: a killed process costs nothing, a network in between changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import Tensor

from detcfg.engine.checkpoint import LAST, load_training
from tests.support.processes import assert_close, assert_same_state, finished, last_weights, start
from tests.support.tiny import Experiment

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "detcfg" / "docs" / "distributed.md"
SCRIPT = HERE / "two_hosts.sh"
SUPPORT = HERE.parent / "support"


def train(experiment: str, folder: Path, *more: str) -> list[str]:
    """What comes after `python`, or after torchrun's own options."""
    return ["-m", "detcfg", "train", str(SUPPORT / experiment), "--work-dir", str(folder), *more]


def torchrun(restarts: int) -> list[str]:
    """Two processes, by what comes after it."""
    options = ["--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *options]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}


def new_network() -> list[str]:
    """The command in front of one that gets a network of its own, or nothing where this is not allowed."""
    if not all(map(shutil.which, ("ip", "unshare", "nsenter", "bash"))):
        return []
    for way in (["unshare", "-rn"], ["unshare", "-n"]):
        if subprocess.run([*way, "bash", str(SCRIPT), "-"], capture_output=True, check=False).returncode == 0:
            return way
    return []


def two_machines(folder: Path, *more: str, restarts: int = 0) -> subprocess.Popen[bytes]:
    """A training on two machines; the test is skipped where there cannot be a network between them."""
    way = new_network()
    if not way:
        pytest.skip(
            "this machine does not let a test make networks: neither unshare -rn nor unshare -n with ip"
        )
    return subprocess.Popen(
        [*way, "bash", str(SCRIPT), sys.executable, *train("certain.py", folder, "data.batch_size=1", *more)],
        env=environment() | {"RESTARTS": str(restarts)},
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_machines_learn_what_one_process_does(
    tmp_path: Path, sharding: str, certain_weights: dict[str, Tensor]
) -> None:
    assert two_machines(tmp_path, f"trainer.sharding={sharding}").wait() == 0
    assert_close(last_weights(tmp_path), certain_weights)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes by /proc")
def test_a_process_killed_on_one_machine_restarts_the_group_on_both(
    tmp_path: Path, certain_weights: dict[str, Tensor]
) -> None:
    process = two_machines(tmp_path, "trainer.checkpoint_interval=1", restarts=1)
    # The machine of the first process only hears that another one restarts, and counts no failure of its own.
    kill_second(process, tmp_path)
    assert process.wait() == 0
    assert_close(last_weights(tmp_path), certain_weights)


COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_page_run(tmp_path: Path, line: str) -> None:
    shutil.copy(SUPPORT / "tiny.py", tmp_path / "my_experiment.py")
    starts = {"detcfg": ["-m", "detcfg"], "torchrun": ["-m", "torch.distributed.run"]}
    program, *arguments = line.split()
    subprocess.run(
        [sys.executable, *starts[program], *arguments], cwd=tmp_path, env=environment(), check=True
    )
    assert list(tmp_path.glob("runs/*/best.safetensors"))


def workers(parent: int) -> list[int]:
    """The processes that train, by rank, among those that a process started, or that these did."""
    found: dict[int, int] = {}
    waiting = [parent]
    while waiting:
        pid = waiting.pop()
        waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        if found_rank := re.search(rb"\0RANK=(\d+)\0", Path(f"/proc/{pid}/environ").read_bytes()):
            found.setdefault(int(found_rank[1]), pid)
    return [found[rank] for rank in sorted(found)]


def kill_second(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Kill the process of rank 1 once there is a checkpoint to go on from."""
    while not (folder / LAST).is_file():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(workers(process.pid)[1], signal.SIGKILL)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes by /proc")
def test_torchrun_restarts_the_group_from_the_last_checkpoint(tmp_path: Path, undisturbed: Path) -> None:
    values = ("data.batch_size=1", "trainer.epochs=3", "trainer.checkpoint_interval=1")
    command = [*torchrun(restarts=2), *train("tiny.py", tmp_path, *values)]
    process = subprocess.Popen(command, env=environment())
    kill_second(process, tmp_path)
    assert process.wait() == 0
    progress = load_training(tmp_path / LAST).progress
    assert (progress["step"], progress["epoch"], progress["images_per_step"]) == (9, 3, 2)
    assert_same_state(undisturbed, tmp_path)


@pytest.mark.timeout(600)
def test_a_folder_that_is_refused_is_refused_again_when_torchrun_tries_once_more(tmp_path: Path) -> None:
    finished([start(Experiment(), tmp_path)])
    before = (tmp_path / LAST).read_bytes()
    command = [*torchrun(restarts=1), *train("tiny.py", tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"holds a training already") == 4  # two processes, twice
    assert (tmp_path / LAST).read_bytes() == before
