"""A trainer of a user's own: a subclass that does a step otherwise, and a config that names it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.data.loader import Batch
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.interrupts import Interrupts
from detcfg.engine.log import JSON_NAME, Log
from detcfg.engine.trainer import Run, Trainer
from detcfg.engine.weights import load_model
from detcfg.experiment import load_experiment
from tests.cli.conftest import Command, command
from tests.support.processes import assert_same_state
from tests.support.tiny import experiment

__all__ = ["command"]  # the fixture

NAME = "sign_descent"
MINE = '''
"""Weights that are kept small, and go by the signs of their gradients."""

from attrs import evolve, frozen
from torch import Tensor

from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.loader import Batch
from detcfg.engine.trainer import Run, Trainer
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig
from detcfg.recipe.schedules import ConstantConfig
from tests.support import tiny


@frozen(kw_only=True)
class SignDescentConfig(TrainerConfig):
    penalty: float = 0.25

    def build(self, run: Run) -> Trainer:
        return SignDescent(self, run)


class SignDescent(Trainer):
    def __init__(self, config: SignDescentConfig, run: Run) -> None:
        super().__init__(config, run)
        self.penalty = config.penalty

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        size = sum(p.square().sum() for p in self.detector.parameters() if p.requires_grad)
        return super().losses(batch) | {"loss_size": self.penalty * size}

    def update(self) -> None:
        for parameter in self.detector.parameters():
            if parameter.grad is not None:
                parameter.grad.sign_()
        super().update()


@frozen(kw_only=True)
class Experiment(tiny.Experiment):
    data: DataConfig = evolve(tiny.Experiment().data, train=DemoDatasetConfig(num_images=2, image_size=(64, 64)))
    trainer: TrainerConfig = SignDescentConfig(
        epochs=1,
        optimizer=SGDConfig(lr=1e-3, momentum=0.0, weight_decay=0.0),
        schedule=ConstantConfig(warmup_iters=0),
        auto_scale_lr=False,
        log_interval=1,
        device="cpu",
    )
'''
LR = 1e-3


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a user, which is forgotten afterwards; an epoch of it is one step."""
    path = tmp_path / f"{NAME}.py"
    path.write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield path
    sys.modules.pop(NAME, None)


def test_its_loss_counts_and_its_step_is_done(mine: Path, tmp_path: Path, command: Command) -> None:
    trained = command("train", str(mine), "--work-dir", str(tmp_path / "run"))
    assert trained.code == 0, trained.err
    torch.manual_seed(0)  # the seed of the experiment
    begun = load_experiment(mine).resolved().model.build()
    weights = {name: p.detach() for name, p in begun.named_parameters() if p.requires_grad}
    (logged, _) = map(json.loads, (tmp_path / "run" / JSON_NAME).read_text().splitlines())
    size = sum(float(weight.square().sum()) for weight in weights.values())
    parts = [value for name, value in logged.items() if name.startswith("loss_")]
    assert logged["loss_size"] == pytest.approx(0.25 * size, rel=1e-5)
    assert logged["loss"] == pytest.approx(sum(parts), rel=1e-5)
    ended = load_training(tmp_path / "run" / LAST).model
    for name, weight in weights.items():
        moved = (ended[name] - weight).abs()
        assert (torch.isclose(moved, torch.tensor(LR), rtol=1e-3) | (moved == 0)).all(), name
        assert (moved > 0)[weight != 0].all(), name  # each weight that there is has a gradient


def test_its_run_is_saved_and_goes_on(mine: Path, tmp_path: Path, command: Command) -> None:
    for folder, epochs, more in (("alone", 2, []), ("stopped", 1, []), ("stopped", 2, ["--resume"])):
        values = [f"trainer.epochs={epochs}", "trainer.penalty=0.5"]
        done = command("train", str(mine), *values, "--work-dir", str(tmp_path / folder), *more)
        assert done.code == 0, done.err
    assert_same_state(tmp_path / "alone", tmp_path / "stopped")

    del sys.modules[NAME]
    with pytest.raises(ConfigError, match=f"--allow {NAME}"):
        load_experiment(tmp_path / "stopped", allow=["tests"])
    model, saved = load_model(tmp_path / "stopped", allow=["tests", NAME])
    assert not model.training
    config = saved.trainer
    assert (type(config).__name__, config.penalty) == ("SignDescentConfig", 0.5)  # type: ignore[attr-defined]
    again = ["--allow", NAME, "--allow", "tests", "--resume", "--work-dir", str(tmp_path / "stopped")]
    done = command("train", str(tmp_path / "stopped"), "trainer.epochs=3", *again)
    assert done.code == 0, done.err
    last = json.loads((tmp_path / "stopped" / JSON_NAME).read_text().splitlines()[-2])
    assert last["step"] == 3
    assert "loss_size" in last


class Clash(Trainer):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return super().losses(batch) | {"loss": torch.ones(())}


def test_a_loss_that_is_named_as_the_sum_is_refused(tmp_path: Path) -> None:
    given = experiment().resolved()
    run = Run(experiment=given, folder=tmp_path, log=Log(tmp_path, quiet=True), interrupts=Interrupts())
    trainer = Clash(given.trainer, run)
    batch = next(trainer.train_loader.epoch(0))
    with pytest.raises(ValueError, match="Rename it: 'loss_kd', say"):
        trainer.step([batch])
