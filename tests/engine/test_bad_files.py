"""Images that break, and folders that vanish, while a training reads them."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch
from attrs import evolve
from PIL import Image

from detcfg.data.errors import DataError
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.files import RunError
from detcfg.engine.run import run_training
from detcfg.engine.trainer import Trainer
from tests.support.coco_files import write
from tests.support.processes import final_state
from tests.support.tiny import Experiment, experiment


def on_files(folder: Path, *, drop_invalid: bool, **trainer: object) -> Experiment:
    """The tiny experiment on three images in a folder; an epoch has three steps."""
    given = experiment(epochs=3, log_interval=1, checkpoint_interval=1, **trainer)
    data = write(folder, drop_invalid=drop_invalid, classes=("dog", "cat"))
    whole = write(folder.with_name("val"), classes=("dog", "cat"))
    return evolve(given, data=evolve(given.data, train=data, val=whole, batch_size=1))


def break_at(monkeypatch: pytest.MonkeyPatch, step: int, spoil: object) -> None:
    """Spoil the files once so many steps are done."""
    done = Trainer.step

    def spoil_and_step(trainer: Trainer, batches: object) -> dict[str, float]:
        if trainer.progress.step == step:
            spoil()  # type: ignore[operator]
        return done(trainer, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", spoil_and_step)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_an_image_that_is_cut_off_in_mid_epoch_is_replaced_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = on_files(tmp_path / "data", drop_invalid=True)
    break_at(monkeypatch, 4, lambda: cut(tmp_path / "data" / "c.png"))

    run_training(given, tmp_path / "run")

    said = capsys.readouterr().out
    progress = load_training(tmp_path / "run" / LAST).progress
    assert progress["epoch"] == 3
    assert progress["skipped"] == said.count("Skipped: ") > 0
    assert said.count(f"Skipped: {tmp_path}/data/c.png: the image is damaged") == progress["skipped"]


def test_a_limit_of_broken_images_ends_the_run_and_a_repaired_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = on_files(tmp_path / "data", drop_invalid=True, max_skipped=0)
    break_at(monkeypatch, 4, lambda: cut(tmp_path / "data" / "c.png"))

    with pytest.raises(RunError, match=r"more than trainer.max_skipped=0.*\n.*c.png"):
        run_training(given, tmp_path / "run")

    assert 4 <= load_training(tmp_path / "run" / LAST).progress["step"] < 9
    monkeypatch.undo()
    Image.new("RGB", (40, 30)).save(tmp_path / "data" / "c.png")
    run_training(evolve(given, trainer=evolve(given.trainer, max_skipped=9)), tmp_path / "run", resume=True)
    assert load_training(tmp_path / "run" / LAST).progress["epoch"] == 3


@pytest.mark.parametrize("drop_invalid", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_folder_that_vanishes_ends_the_run_and_one_that_is_back_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, drop_invalid: bool, num_workers: int
) -> None:
    given = on_files(tmp_path / "data", drop_invalid=drop_invalid)
    given = evolve(given, data=evolve(given.data, num_workers=num_workers))
    break_at(monkeypatch, 2, lambda: shutil.move(tmp_path / "data", tmp_path / "gone"))

    with pytest.raises(DataError, match=r"\.png: there is no such image"):
        run_training(given, tmp_path / "run")

    assert not multiprocessing.active_children()  # a process that reads images would hold up the exit
    before = load_training(tmp_path / "run" / LAST).progress["step"]
    assert before >= 2
    with pytest.raises(DataError, match=r"all\.json: there is no such file"):  # at once, this time
        run_training(given, tmp_path / "run", resume=True)
    assert load_training(tmp_path / "run" / LAST).progress["step"] == before
    monkeypatch.undo()
    shutil.move(tmp_path / "gone", tmp_path / "data")
    run_training(given, tmp_path / "run", resume=True)
    assert load_training(tmp_path / "run" / LAST).progress["epoch"] == 3
    assert all(tensor.isfinite().all() for tensor in final_state(tmp_path / "run").values())
    assert torch.is_tensor(final_state(tmp_path / "run")["model.backbone.conv1.weight"])
