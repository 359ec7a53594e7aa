"""Models of all kinds learn the same with their parameters cut among processes, and go on from the shards."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch
from attrs import evolve

from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.engine.run import run_training
from detcfg.experiment import ExperimentConfig
from detcfg.recipe.optimizers import SGDConfig
from tests.support.experiments import experiment
from tests.support.processes import assert_close, finished, last_weights, members
from tests.support.small import narrow
from tests.support.tiny import Experiment

MODELS: Final = {
    "cascade_mask_rcnn": "a head for each of three stages",
    "rtmdet": "layers that levels share, each with several names for its weights",
    "condinst": "filters that are predicted",
}
"""Experiments, and what is particular about their parameters. The first stages of most are frozen."""


def training(name: str, sharding: str, epochs: int) -> ExperimentConfig:
    """One step an epoch, each process with an image of its own."""
    tiny = Experiment()
    with_mask = name == "condinst" or experiment(name).data.with_mask
    data: DataConfig = evolve(
        tiny.data,
        train=DemoDatasetConfig(num_images=2, image_size=(64, 64)),
        val=DemoDatasetConfig(split="val", num_images=2, image_size=(64, 64)),
        train_transforms=(),
        batch_size=1,
        with_mask=with_mask,
    )
    trainer = evolve(tiny.trainer, sharding=sharding, epochs=epochs, optimizer=SGDConfig(lr=1e-3))
    model = narrow(experiment(name).model, num=16, max_per_img=20, pretrained=None)
    return ExperimentConfig(model=model, data=data, trainer=trainer)


def weights(name: str, folder: Path, sharding: str, epochs: int) -> dict[str, torch.Tensor]:
    """The weights after so many epochs; the training goes on if it was begun."""
    given = training(name, sharding, epochs)
    finished(members(2, lambda: run_training(given, folder, resume=True), folder))
    return last_weights(folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MODELS)
def test_a_cut_model_learns_what_the_whole_one_does_and_goes_on(tmp_path: Path, name: str) -> None:
    cut = weights(name, tmp_path / "cut", "fsdp", 1)
    whole = weights(name, tmp_path / "whole", "none", 1)
    assert_close(cut, whole)
    gone_on = weights(name, tmp_path / "cut", "fsdp", 2)
    assert any(not torch.equal(gone_on[key], tensor) for key, tensor in cut.items())
