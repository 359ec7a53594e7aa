"""Trainings that several tests hold theirs against, each done once."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from torch import Tensor

from detcfg.engine.run import run_training
from tests.support import certain
from tests.support.processes import finished, last_weights, members, start
from tests.support.tiny import experiment


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of the tiny experiment in two processes: three epochs of three steps."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    given = experiment(epochs=3, checkpoint_interval=1)
    given = evolve(given, data=evolve(given.data, batch_size=1))
    finished(members(2, lambda: run_training(given, folder), folder))
    return folder


@pytest.fixture(scope="session")
def certain_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What the experiment without chance ends in, in one process."""
    folder = tmp_path_factory.mktemp("certain") / "run"
    finished([start(certain.Experiment(), folder)])
    return last_weights(folder)
