"""What heads remember of earlier steps goes on with a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.run import run_training
from detcfg.experiment import ExperimentConfig
from tests.support.experiments import experiment
from tests.support.small import narrow
from tests.support.tiny import Experiment


def training(name: str, epochs: int) -> ExperimentConfig:
    """Three steps an epoch."""
    tiny = Experiment()
    model = narrow(experiment(name).model, num=16, max_per_img=20, pretrained=None, update_iter_interval=2)
    data = evolve(tiny.data, train=evolve(tiny.data.train, image_size=(96, 96)))
    return ExperimentConfig(model=model, data=data, trainer=evolve(tiny.trainer, epochs=epochs))


def remembered(folder: Path) -> dict[str, Any]:
    ((_, found),) = load_training(folder / LAST).progress["memory"][0].items()
    return found


@pytest.mark.parametrize("name", ["ddod", "dynamic_rcnn"])
def test_a_training_that_went_on_ends_in_the_same_weights(tmp_path: Path, name: str) -> None:
    run_training(training(name, 2), tmp_path / "whole")
    run_training(training(name, 1), tmp_path / "parts")
    before = remembered(tmp_path / "parts")
    run_training(training(name, 2), tmp_path / "parts", resume=True)

    whole, parts = (load_training(tmp_path / folder / LAST) for folder in ("whole", "parts"))
    for key, tensor in whole.model.items():
        assert torch.equal(parts.model[key], tensor), key
    assert remembered(tmp_path / "parts") == remembered(tmp_path / "whole") != before


def test_dynamic_rcnn_remembers_its_thresholds_and_the_steps_since(tmp_path: Path) -> None:
    run_training(training("dynamic_rcnn", 1), tmp_path)
    found = remembered(tmp_path)

    assert found["iou"] >= 0.4
    assert 0 < found["beta"] <= 1
    assert len(found["iou_history"]) == 1  # three steps, and a change after two
