"""Several processes train as one: the same gradients, the same figures, and the same weights again."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from attrs import evolve
from torch import Tensor, nn

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.engine import distributed
from detcfg.engine.checkpoint import LAST, load_training
from detcfg.engine.files import RunError, only_run
from detcfg.engine.validation import validate
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.experiments import mask_rcnn
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.structures import Targets
from tests.support.forked import Command
from tests.support.processes import assert_close, assert_same_state
from tests.support.small import narrow
from tests.support.tiny import Model, experiment

EXPERIMENT = Path(__file__).parents[1] / "support" / "tiny.py"


def together(size: int, work: Callable[[], None], folder: Path) -> None:
    """Do the work in so many processes that know each other."""

    def member(rank: int) -> None:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
        work()
        dist.barrier()
        dist.destroy_process_group()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=member, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * size


def without_chance() -> Model:
    """A model whose samplers take all, and whose batch norms do not look at the batch."""
    everything = RandomSamplerConfig(num=10**6, pos_fraction=0.5)
    model = Model()
    assert isinstance(model.rpn_head, RPNHeadConfig)
    assert isinstance(model.roi_head, StandardRoIHeadConfig)
    return evolve(
        model,
        num_classes=4,
        backbone=ResNetConfig(depth=18, base_channels=4, norm_eval=True),
        rpn_head=evolve(model.rpn_head, sampler=evolve(everything, add_gt_as_proposals=False)),
        roi_head=evolve(model.roi_head, sampler=everything),
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def backward(model: nn.Module, images: list[Tensor], targets: list[Targets]) -> None:
    losses: dict[str, Tensor] = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]


def scenes() -> tuple[list[Tensor], list[Targets]]:
    """Six images; the first has no objects, so that the shares are unlike each other."""
    samples = list(DemoDatasetConfig(num_images=6, image_size=(64, 64)).dataset())
    targets = [sample.targets for sample in samples]
    nothing = torch.zeros(len(targets[0]), dtype=torch.bool)
    return [sample.image.as_subclass(Tensor) for sample in samples], [targets[0][nothing], *targets[1:]]


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_global_batch_has_the_gradients_of_one_process(tmp_path: Path, size: int) -> None:
    torch.manual_seed(0)
    detector = without_chance().build().train()
    images, targets = scenes()
    backward(detector, images, targets)
    expected = gradients(detector)
    detector.zero_grad()

    def work() -> None:
        mine = slice(distributed.rank() * 6 // size, (distributed.rank() + 1) * 6 // size)
        model = distributed.wrap_ddp(detector)
        backward(model, images[mine], targets[mine])
        assert_close(gradients(detector), expected)

    together(size, work, tmp_path)


@pytest.mark.parametrize("size", [2, 3])
def test_validation_is_shared_out_and_merged_without_duplicates(tmp_path: Path, size: int) -> None:
    torch.manual_seed(0)
    given = experiment()
    given = evolve(
        given, data=evolve(given.data, val=DemoDatasetConfig(split="val", num_images=5, image_size=(64, 64)))
    )
    detector = given.resolved().model.build()
    loader = given.data.val_loader()
    evaluator = CocoEvaluator(loader.source)
    losses = validate(detector, loader, evaluator)
    metrics = evaluator.compute()
    found = evaluator.detections()

    def work() -> None:
        loader = given.data.val_loader(rank=distributed.rank(), world_size=size)
        shared = CocoEvaluator(loader.source)
        shared_losses = validate(detector, loader, shared)
        assert shared.detections() == found
        assert shared.compute() == metrics
        # Losses draw samples by the number of the batch in its share, so they agree in about.
        assert shared_losses.keys() == losses.keys()

    together(size, work, tmp_path)


@pytest.mark.parametrize("size", [2, 3])
def test_masks_are_shared_out_and_merged_too(tmp_path: Path, size: int) -> None:
    torch.manual_seed(0)
    data = evolve(
        experiment().data,
        val=DemoDatasetConfig(split="val", num_images=5, image_size=(64, 64)),
        with_mask=True,
    )
    model = narrow(mask_rcnn.Model(), depth=18, max_per_img=5, pretrained=None)
    detector = evolve(model, num_classes=len(data.classes)).build()
    loader = data.val_loader()
    evaluator = CocoEvaluator(loader.source, ("bbox", "segm"))
    validate(detector, loader, evaluator)
    metrics = evaluator.compute()
    found = evaluator.detections()
    assert all("segmentation" in detection for detection in found)
    assert len({detection["image_id"] for detection in found}) == 5

    def work() -> None:
        loader = data.val_loader(rank=distributed.rank(), world_size=size)
        shared = CocoEvaluator(loader.source, ("bbox", "segm"))
        validate(detector, loader, shared)
        assert shared.detections() == found
        assert shared.compute() == metrics

    together(size, work, tmp_path)


def command(folder: Path, *more: str) -> list[str]:
    """What trains the tiny experiment in a folder."""
    values = ("trainer.epochs=3", "trainer.checkpoint_interval=1", "data.batch_size=1")
    return ["train", str(EXPERIMENT), *values, "--work-dir", str(folder), *more]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come about within 200 s")


def is_free(folder: Path) -> bool:
    """Whether no run holds a folder."""
    try:
        with only_run(folder):
            return True
    except RunError:
        return False


@pytest.mark.timeout(900)
def test_two_processes_killed_and_resumed_end_in_the_same_weights(tmp_path: Path, undisturbed: Path) -> None:
    assert load_training(undisturbed / LAST).progress["step"] == 9
    again = command(tmp_path, "--devices", "2", "--resume")
    chance = random.Random(0)  # noqa: S311
    for steps in (0, 3):
        process = Command(*again)
        until(lambda: process.poll() is not None or steps_of(tmp_path) > steps)  # noqa: B023
        time.sleep(chance.uniform(0, 0.3))
        process.kill()  # its two processes notice, save and end
        process.wait()
        until(lambda: is_free(tmp_path))
    last = Command(*again)
    assert last.wait() == 0, last.err
    assert_same_state(undisturbed, tmp_path)


def steps_of(folder: Path) -> int:
    """How many steps the last checkpoint has."""
    return int(load_training(folder / LAST).progress["step"]) if (folder / LAST).is_file() else 0


def children(parent: int) -> list[int]:
    """The processes that a process started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes by /proc")
def test_a_killed_process_restarts_the_group_from_the_last_checkpoint(
    tmp_path: Path, undisturbed: Path
) -> None:
    process = Command(*command(tmp_path, "--devices", "2"))
    until((tmp_path / LAST).is_file)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    assert process.wait() == 0, process.err
    assert "All begin again from the last checkpoint" in process.out
    assert_same_state(undisturbed, tmp_path)


def test_sigterm_ends_all_processes_with_a_checkpoint_and_the_command_that_resumes(tmp_path: Path) -> None:
    process = Command(*command(tmp_path, "--devices", "2", "trainer.epochs=1000"))
    until((tmp_path / LAST).is_file)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert len(re.findall(r"detcfg train .* --resume --devices 2", process.out)) == 1
    assert load_training(tmp_path / LAST).progress["step"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_that_one_process_says_when_it_is_stopped_goes_on(tmp_path: Path, number: int) -> None:
    process = Command(*command(tmp_path, "trainer.epochs=1000"))
    until((tmp_path / LAST).is_file)
    process.send_signal(number)
    # Clusters take any other code of a job that they stopped for a failure; a shell knows Ctrl-C by 130.
    assert process.wait() == (0 if number == signal.SIGTERM else 130)
    stopped = load_training(tmp_path / LAST).progress["step"]
    (again,) = re.findall(r"^ *detcfg (train .* --resume)$", process.out, flags=re.MULTILINE)
    process = Command(*shlex.split(again))
    until(lambda: load_training(tmp_path / LAST).progress["step"] > stopped)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    process = Command(*command(tmp_path, "--devices", "2", "trainer.save_best=nothing"))
    assert process.wait() == 1
    assert process.err.count("is no metric of this run") == 1
    assert "Traceback" not in process.err


def test_processes_that_are_started_again_read_nothing_that_earlier_ones_wrote() -> None:
    store = dist.HashStore()

    def meet(rank: int) -> Any:
        time.sleep((0.2, 0.0, 0.1)[rank])
        return distributed.unused_part(store, rank, 3)

    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            first, *others = pool.map(meet, range(3))
        assert not first.check(["address"])
        first.set("address", "here")
        assert [other.get("address") for other in others] == [b"here", b"here"]


def test_the_first_process_says_who_did_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "INIT_TIMEOUT", timedelta(seconds=0.1))
    store = dist.HashStore()
    store.set("2 asks", "long ago")
    with pytest.raises(TimeoutError, match="2 of 3 did not come, rank 1 among them"):
        distributed.unused_part(store, 0, 3)


def test_a_process_whose_partner_never_comes_gives_up() -> None:
    code = (
        "from datetime import timedelta\n"
        "from detcfg.engine import distributed\n"
        "from detcfg.engine.files import RunError\n"
        "distributed.INIT_TIMEOUT = timedelta(seconds=2)\n"
        "try:\n    with distributed.process_group(): pass\n"
        "except RunError as error: raise SystemExit(str(error))\n"
    )
    alone = {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | alone,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    assert "did not meet at 127.0.0.1:0 within 0:00:02" in done.stderr
    assert "Traceback" not in done.stderr
