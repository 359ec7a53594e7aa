"""A training from the command line to its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detcfg.engine.checkpoint import BEST, LAST, load_training
from detcfg.engine.log import JSON_NAME
from detcfg.engine.run import run_training
from detcfg.engine.weights import load_model, load_weights
from detcfg.errors import DetcfgError
from tests.support.tiny import experiment


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JSON_NAME).read_text().splitlines()]


def test_a_training_leaves_checkpoints_a_log_and_its_experiment(tmp_path: Path) -> None:
    metrics = run_training(experiment(log_interval=1), tmp_path)
    log = lines(tmp_path)
    assert [entry["step"] for entry in log if entry["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    judged = [entry for entry in log if entry["kind"] == "val"]
    assert [entry["epoch"] for entry in judged] == [1, 2]
    assert judged[-1]["bbox_AP"] == metrics["bbox_AP"]
    assert judged[-1]["val_loss"] > 0
    assert load_training(tmp_path / LAST).progress["epoch"] == 2
    assert list(tmp_path.glob("tensorboard/events*"))
    model, saved = load_model(tmp_path, allow=["tests"])
    assert saved == experiment(log_interval=1).resolved()
    assert all(
        torch.equal(tensor, load_weights(tmp_path / BEST)[name])
        for name, tensor in model.state_dict().items()
    )


def test_two_trainings_of_one_seed_end_in_the_same_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_training(experiment(epochs=1), tmp_path / name)
    first, second = (load_weights(tmp_path / name / LAST) for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_folder_that_holds_a_training_is_not_overwritten(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path)
    with pytest.raises(DetcfgError, match="--resume"):
        run_training(experiment(epochs=1), tmp_path)
