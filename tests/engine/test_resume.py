"""A training that is interrupted, however it is, ends in the very weights of one that is not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from attrs import evolve

from detcfg.data.demo import DemoDatasetConfig
from detcfg.engine.checkpoint import LAST, CheckpointError, load_training
from detcfg.engine.interrupts import Interrupted
from detcfg.engine.run import run_training
from detcfg.engine.trainer import Trainer
from detcfg.experiment import load_experiment
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig
from detcfg.recipe.schedules import ConstantConfig
from tests.support.processes import assert_same_state, start
from tests.support.tiny import Experiment, experiment, full


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


def test_values_that_changed_are_trained_with_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = full()
    run_training(evolve(given, trainer=evolve(given.trainer, epochs=1)), tmp_path)
    before = load_training(tmp_path / LAST).optimizer
    capsys.readouterr()
    optimizer = AdamWConfig(lr=4e-3, weight_decay=0.5, betas=(0.8, 0.99))
    changed = evolve(
        given,
        data=evolve(given.data, batch_size=1),
        trainer=evolve(given.trainer, epochs=2, optimizer=optimizer, schedule=ConstantConfig(warmup_iters=0)),
    )
    run_training(changed, tmp_path, resume=True)

    state = load_training(tmp_path / LAST)
    (group,) = state.optimizer["param_groups"]
    lr = 4e-3 * 2 / 16  # two batches of one image a step, for 16
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == pytest.approx((lr, lr, 0.5))
    assert group["betas"] == [0.8, 0.99]
    said = capsys.readouterr().out
    assert "Changed: trainer.optimizer.lr was 0.001, is 0.004" in said
    assert "Changed: trainer.optimizer.weight_decay was 0.05, is 0.5" in said
    assert "Changed: trainer.schedule was CosineConfig, is ConstantConfig" in said
    assert "Changed: data.batch_size was 2, is 1" in said
    assert load_experiment(tmp_path) == changed.resolved()
    steps = {int(values["step"]) for values in state.optimizer["state"].values()}
    assert steps == {int(values["step"]) + 5 for values in before["state"].values()}  # the moments go on


def test_parameters_in_other_groups_keep_their_own_moments(tmp_path: Path) -> None:
    given = full()
    run_training(evolve(given, trainer=evolve(given.trainer, epochs=1)), tmp_path / "a")
    run_training(given, tmp_path / "a", resume=True)
    # Multipliers of one sort the parameters anew and change nothing else.
    run_training(
        evolve(given, trainer=evolve(given.trainer, epochs=1, optimizer=_regrouped())), tmp_path / "b"
    )
    assert len(load_training(tmp_path / "b" / LAST).optimizer["param_groups"]) == 2
    run_training(given, tmp_path / "b", resume=True)
    mine, other = (load_training(tmp_path / name / LAST) for name in "ab")
    for name, tensor in mine.model.items():
        torch.testing.assert_close(tensor, other.model[name], atol=1e-6, rtol=1e-4)


def _regrouped() -> AdamWConfig:
    key = CustomKeyConfig(key="backbone.layer4", lr_mult=1 + 1e-12)
    return AdamWConfig(lr=1e-3, paramwise_cfg=ParamwiseConfig(custom_keys=(key,)))


def test_what_was_frozen_learns_from_now_on(tmp_path: Path) -> None:
    def given(frozen: int, epochs: int) -> Experiment:
        made = experiment(epochs=epochs)
        return evolve(
            made,
            model=evolve(made.model, backbone=evolve(made.model.backbone, frozen_stages=frozen)),  # type: ignore[call-arg]
        )

    run_training(given(4, 1), tmp_path)
    before = load_training(tmp_path / LAST)
    run_training(given(-1, 2), tmp_path, resume=True)
    after = load_training(tmp_path / LAST)
    weight = "backbone.layer4.0.conv1.weight"
    assert weight not in before.progress["parameters"]
    assert not torch.equal(before.model[weight], after.model[weight])


def test_another_model_is_refused_by_name_and_leaves_what_is_said_of_the_run(tmp_path: Path) -> None:
    given = experiment(epochs=1)
    run_training(given, tmp_path)
    wider = evolve(given, model=evolve(given.model, neck=FPNConfig(out_channels=16)))
    with pytest.raises(
        CheckpointError, match=r"It was trained with other values: model.neck.out_channels was 8, is 16"
    ):
        run_training(wider, tmp_path, resume=True)
    assert load_experiment(tmp_path) == given.resolved()


def test_half_precision_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path)
    run_training(experiment(epochs=2, amp="fp16"), tmp_path, resume=True)
    run_training(experiment(epochs=3), tmp_path, resume=True)
    assert load_training(tmp_path / LAST).progress["epoch"] == 3


def test_an_epoch_of_more_images_keeps_the_schedule_in_epochs(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path)
    more = experiment(epochs=2)
    more = evolve(more, data=evolve(more.data, train=DemoDatasetConfig(num_images=12, image_size=(64, 64))))
    run_training(more, tmp_path, resume=True)
    assert load_training(tmp_path / LAST).progress["step"] == 12
