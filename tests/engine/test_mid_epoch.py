"""A training that is stopped in the middle of an epoch goes on with the very next batch, whatever has a state."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.transforms import PhotoMetricDistortionConfig, RandomFlipConfig, RandomResizeConfig
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.interrupts import Interrupted
from detcfg.engine.run import run_training
from detcfg.engine.trainer import Trainer
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, SGDConfig
from detcfg.recipe.schedules import CosineConfig, MultiStepConfig
from tests.support.processes import assert_same_state
from tests.support.tiny import Experiment, experiment

STOP = 4
"""Steps of the first training; an epoch has five."""


def given(num_workers: int = 0, **trainer: Any) -> Experiment:
    """A training whose images are changed at random."""
    made = experiment(epochs=2, log_interval=1, **trainer)
    transforms = (
        RandomResizeConfig(scale=((64, 64),), ratio_range=(0.6, 1.4)),
        RandomFlipConfig(),
        PhotoMetricDistortionConfig(),
    )
    train = DemoDatasetConfig(num_images=10, image_size=(64, 64))
    return evolve(
        made,
        data=evolve(made.data, train=train, num_workers=num_workers, train_transforms=transforms, batch_size=2),
    )  # fmt: skip


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Any], float, float]]:
    """The images, the sum of their pixels and the learning rate of each step."""
    seen: list[tuple[list[Any], float, float]] = []
    step = Trainer.step

    def noted(trainer: Trainer, group: Any) -> dict[str, float]:
        losses = step(trainer, group)
        pixels = sum(float(image.double().sum()) for batch in group for image in batch.images)
        seen.append(([info.image_id for batch in group for info in batch.infos], pixels, trainer.lr))
        return losses

    monkeypatch.setattr(Trainer, "step", noted)
    return seen


def stop_and_go_on(made: Experiment, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train beside a training that is left alone; what stood in the checkpoint in between."""
    run_training(made, folder / "alone")
    step = Trainer.step

    def step_and_signal(trainer: Trainer, group: Any) -> dict[str, float]:
        losses = step(trainer, group)
        if trainer.progress.step == STOP - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step_and_signal)
        with pytest.raises(Interrupted):
            run_training(made, folder / "stopped")
    state = load_training(folder / "stopped" / LAST)
    assert state.progress["step_in_epoch"] == STOP
    run_training(made, folder / "stopped", resume=True)
    assert_same_state(folder / "alone", folder / "stopped")
    return {"state": state, "end": load_training(folder / "alone" / LAST)}


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_the_next_batch_and_what_workers_draw_are_those_of_the_training_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: list[Any], num_workers: int
) -> None:
    stop_and_go_on(given(num_workers), tmp_path, monkeypatch)

    assert batches[10:] == batches[:10]
    assert len({pixels for _, pixels, _ in batches[:10]}) == 10  # the second epoch draws anew
    assert sorted(i for images, _, _ in batches[:5] for i in images) == list(range(10))


@pytest.mark.parametrize(
    "optimizer", [SGDConfig(lr=0.02), SGDConfig(lr=0.02, nesterov=True), AdamWConfig(lr=1e-3)]
)
def test_the_optimizer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any) -> None:
    found = stop_and_go_on(given(optimizer=optimizer), tmp_path, monkeypatch)

    name = "exp_avg" if isinstance(optimizer, AdamWConfig) else "momentum_buffer"
    assert all(values[name].abs().sum() > 0 for values in found["state"].optimizer["state"].values())


@pytest.mark.parametrize(
    "schedule", [MultiStepConfig(warmup_iters=7, milestones=(1,)), CosineConfig(warmup_iters=2)]
)
def test_the_schedule_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: list[Any], schedule: Any
) -> None:
    stop_and_go_on(given(schedule=schedule), tmp_path, monkeypatch)

    rates = [rate for _, _, rate in batches]
    assert rates[10:] == rates[:10]
    assert len(set(rates[STOP - 1 : STOP + 2])) > 1  # it moves just there


def test_the_scale_of_the_loss_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows after every three steps here, so that it is another one when the training is stopped."""
    scaler = torch.amp.GradScaler

    def eager(device: str, *, enabled: bool) -> torch.amp.GradScaler:
        return scaler(device, init_scale=2.0**8, growth_interval=3, enabled=enabled)

    monkeypatch.setattr(torch.amp, "GradScaler", eager)
    found = stop_and_go_on(given(amp="fp16"), tmp_path, monkeypatch)

    assert found["state"].progress["scaler"]["scale"] != 2.0**8
    assert found["state"].progress["scaler"] != found["end"].progress["scaler"]


def test_the_average_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stop_and_go_on(given(ema=EMAConfig(momentum=0.1, gamma=2)), tmp_path, monkeypatch)

    average = found["state"].ema
    weight = "backbone.conv1.weight"
    assert not torch.equal(average[weight], found["state"].model[weight])
