"""Whatever goes wrong, the last good checkpoint stays, and the message says what to do."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.data.demo import DemoDataset
from detcfg.data.errors import DataError
from detcfg.detectors.faster_rcnn import FasterRCNN
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.files import RunError, only_run, write_atomically
from detcfg.engine.run import run_training
from detcfg.recipe.optimizers import SGDConfig
from detcfg.recipe.schedules import MultiStepConfig
from tests.support.processes import assert_same_state, final_state, start
from tests.support.tiny import Experiment, experiment


def stopped(given: Experiment, folder: Path, *, resume: bool = False) -> str:
    """What a training says that cannot go on."""
    with pytest.raises(RunError) as error:
        run_training(given, folder, resume=resume)
    return str(error.value)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(experiment(epochs=1), tmp_path)
    before = final_state(tmp_path)
    loss = FasterRCNN.loss

    def broken(model: FasterRCNN, images: list[Tensor], targets: list[object]) -> dict[str, Tensor]:
        losses = loss(model, images, targets)  # type: ignore[arg-type]
        return losses | {"loss_cls": losses["loss_cls"] * float("nan")}

    monkeypatch.setattr(FasterRCNN, "loss", broken)
    said = stopped(experiment(), tmp_path, resume=True)
    assert "step 4: the loss is nan (loss_cls nan)" in said
    assert len(re.findall(r"demo:train/0/\d \(id \d\)", said)) == 2
    assert "trainer.optimizer.lr" in said
    assert all(torch.equal(tensor, final_state(tmp_path)[name]) for name, tensor in before.items())


@pytest.mark.parametrize("lr", [1e6, 1e37, 3e38])
def test_a_training_that_diverges_keeps_no_weights_that_are_not_finite(tmp_path: Path, lr: float) -> None:
    wild = experiment(
        epochs=9,
        optimizer=SGDConfig(lr=lr),
        schedule=MultiStepConfig(warmup_iters=0),
        checkpoint_interval=1,
        auto_scale_lr=False,
    )
    said = stopped(wild, tmp_path)
    assert "trainer.optimizer.lr" in said
    assert "the loss is" in said or "are not finite any more" in said
    if (tmp_path / LAST).is_file():
        weights = load_training(tmp_path / LAST).model
        assert all(p.isfinite().all() for name, p in weights.items() if "running" not in name)


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path / "full")
    run_training(experiment(), tmp_path / "undisturbed")
    child = os.fork()
    if child == 0:
        # The system refuses to write more, in the midst of the file, as a full disk does.
        size = (tmp_path / "full" / LAST).stat().st_size
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
        try:
            run_training(experiment(), tmp_path / "full", resume=True)
        except RunError as error:
            os._exit(
                0 if "last.safetensors cannot be written" in str(error) and "--resume" in str(error) else 4
            )
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert load_training(tmp_path / "full" / LAST).progress["epoch"] == 1
    assert not list((tmp_path / "full").glob(".*.tmp"))
    run_training(experiment(), tmp_path / "full", resume=True)  # once there is room
    assert_same_state(tmp_path / "full", tmp_path / "undisturbed")


def test_a_place_where_nothing_can_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--work-dir" in stopped(experiment(), tmp_path / "file" / "run")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail(new: Path) -> None:
        new.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"No space left on device.*still there"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_runs_never_share_a_folder_and_a_dead_one_frees_it(tmp_path: Path) -> None:
    process = start(experiment(epochs=100), tmp_path)
    while not (tmp_path / LAST).is_file():
        time.sleep(0.01)
    assert "another run is writing to it" in stopped(experiment(), tmp_path, resume=True)
    process.kill()
    process.join()
    with only_run(tmp_path):
        pass


TOO_LITTLE = """
import resource, sys
from pathlib import Path
import torchvision
from attrs import evolve
from detcfg.data.demo import DemoDatasetConfig
from detcfg.engine.files import RunError
from detcfg.engine.run import run_training
from tests.support.tiny import experiment

given = experiment()
huge = DemoDatasetConfig(num_images=2, max_objects=1, image_size=(2048, 2048))
given = evolve(given, data=evolve(given.data, train=huge, batch_size=2))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
try:
    run_training(given, Path(sys.argv[1]))
except RunError as error:
    print(error)
"""


def test_memory_that_does_not_suffice_is_said_with_what_to_lower(tmp_path: Path) -> None:
    # A process of its own: one that has run other tests has memory to spare, or threads that it lacks.
    done = subprocess.run(
        [sys.executable, "-c", TOO_LITTLE, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert "data.batch_size=1 trainer.accumulate=2" in done.stdout
    assert "amp=bf16" in done.stdout


def test_a_dead_worker_stops_the_run_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = os.getpid()
    read = DemoDataset.__getitem__

    def die(dataset: DemoDataset, index: int) -> object:
        if os.getpid() != main and index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(dataset, index)

    monkeypatch.setattr(DemoDataset, "__getitem__", die)
    given = experiment()
    said = stopped(evolve(given, data=evolve(given.data, num_workers=1)), tmp_path)
    assert "data.num_workers (now 1)" in said


def unreadable(monkeypatch: pytest.MonkeyPatch, *, drop: bool) -> None:
    """Have images 1 and 4 of the training be broken."""
    read = DemoDataset.__getitem__

    def read_or_fail(dataset: DemoDataset, index: int) -> object:
        if index in (1, 4) and dataset.config.split == "train":
            raise DataError(f"image {index} is damaged")
        return read(dataset, index)

    monkeypatch.setattr(DemoDataset, "__getitem__", read_or_fail)
    monkeypatch.setattr(DemoDataset, "drop_invalid", drop)


def test_an_unreadable_image_stops_the_run_unless_the_data_says_to_drop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, drop=False)
    with pytest.raises(DataError, match="is damaged"):
        run_training(experiment(), tmp_path)


def test_unreadable_images_are_replaced_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable(monkeypatch, drop=True)
    run_training(experiment(), tmp_path)
    skipped = load_training(tmp_path / LAST).progress["skipped"]
    said = capsys.readouterr().out
    assert said.count("Skipped: image 1 is damaged") >= 2  # once an epoch; more if drawn as a stand-in
    assert said.count("Skipped: image 4 is damaged") >= 2
    assert said.count("Skipped: ") == skipped


def test_too_many_unreadable_images_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable(monkeypatch, drop=True)
    assert "more than trainer.max_skipped=1" in stopped(experiment(max_skipped=1), tmp_path)


def test_an_unknown_best_metric_is_found_before_the_first_step(tmp_path: Path) -> None:
    assert "Did you mean 'bbox_AP50'" in stopped(experiment(save_best="box_AP50"), tmp_path)
