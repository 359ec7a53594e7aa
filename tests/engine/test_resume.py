"""A training that is interrupted, however it is, ends in the very weights of one that is not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from attrs import evolve

from detcfg.engine.checkpoint import LAST
from detcfg.engine.interrupts import Interrupted
from detcfg.engine.run import run_training
from detcfg.engine.trainer import Trainer
from tests.support.processes import assert_same_state, start
from tests.support.tiny import experiment, full


def test_workers_that_read_images_change_nothing_of_a_resumed_run(tmp_path: Path) -> None:
    given = full()
    run_training(given, tmp_path / "undisturbed")
    with_workers = evolve(given, data=evolve(given.data, num_workers=1))
    process = start(with_workers, tmp_path / "killed")
    while not (tmp_path / "killed" / LAST).is_file():
        time.sleep(0.01)
    process.kill()
    process.join()
    # At once: the workers that the dead process left behind must not hold the folder.
    run_training(with_workers, tmp_path / "killed", resume=True)
    assert_same_state(tmp_path / "killed", tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_saves(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(full(), tmp_path / "undisturbed")
    step = Trainer.step

    def step_and_signal(trainer: Trainer, batches: object) -> dict[str, float]:
        losses = step(trainer, batches)  # type: ignore[arg-type]
        if trainer.progress.step == 4:
            os.kill(os.getpid(), number)
        return losses

    monkeypatch.setattr(Trainer, "step", step_and_signal)
    given = evolve(full(), trainer=evolve(full().trainer, checkpoint_interval=1000))
    with pytest.raises(Interrupted) as stopped:
        run_training(given, tmp_path / "stopped")
    assert stopped.value.signum == number
    monkeypatch.undo()
    run_training(full(), tmp_path / "stopped", resume=True)
    assert_same_state(tmp_path / "stopped", tmp_path / "undisturbed")


def test_a_signal_during_validation_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(full(), tmp_path / "undisturbed")

    def judge_and_signal(*_: object) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr("detcfg.engine.validation._judge", judge_and_signal)
    with pytest.raises(Interrupted):
        run_training(full(), tmp_path / "stopped")
    monkeypatch.undo()
    run_training(full(), tmp_path / "stopped", resume=True)
    assert_same_state(tmp_path / "stopped", tmp_path / "undisturbed")


def test_resuming_what_never_began_begins(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path, resume=True)
    assert (tmp_path / LAST).is_file()


def test_a_finished_training_resumed_with_more_epochs_goes_on(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path / "a")
    run_training(experiment(epochs=2), tmp_path / "a", resume=True)
    run_training(experiment(epochs=2), tmp_path / "b")
    assert_same_state(tmp_path / "a", tmp_path / "b")
