"""A model whose parameters are cut among processes learns the same as one that each of them has whole."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from detcfg.config import ConfigError
from detcfg.engine import distributed
from detcfg.engine.checkpoint import BEST, LAST, CheckpointError
from detcfg.engine.files import RunError
from detcfg.engine.interrupts import Interrupts
from detcfg.engine.log import Log
from detcfg.engine.run import run_training
from detcfg.engine.sharded_checkpoint import STATE, load_sharded_weights, newest
from detcfg.engine.sharding import Shards, full_tensors, local_shard, units
from detcfg.engine.store import Sharded
from detcfg.engine.trainer import Run
from detcfg.engine.weights import load_model, load_weights
from detcfg.recipe.config import ClipGradConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig
from tests.support.processes import assert_close, last_weights, members
from tests.support.tiny import Experiment, experiment


def full(**trainer: Any) -> Experiment:
    """A training with all that has a state, one image a process and two a step."""
    given = experiment(
        epochs=2,
        optimizer=AdamWConfig(lr=1e-3),
        ema=EMAConfig(momentum=0.1, gamma=2),
        clip_grad=ClipGradConfig(max_norm=1.0),
        checkpoint_interval=1,
    )
    given = evolve(given, trainer=evolve(given.trainer, **trainer))
    return evolve(given, data=evolve(given.data, batch_size=1))


def trained(folder: Path, size: int = 2, **trainer: Any) -> Path:
    """The folder of a training in so many processes, which goes on if it was begun."""
    processes = members(size, lambda: run_training(full(**trainer), folder, resume=True), folder)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * size
    return folder


@pytest.mark.parametrize("kind", ["AdamW with clipping and average", "two batches a step"])
def test_cut_or_whole_the_weights_after_some_steps_agree(tmp_path: Path, kind: str) -> None:
    more: dict[str, Any] = {"accumulate": 2} if kind == "two batches a step" else {}
    cut = trained(tmp_path / "cut", sharding="fsdp", **more)
    whole = trained(tmp_path / "whole", **more)
    assert_close(last_weights(cut), last_weights(whole))
    assert_close(load_file(cut / BEST), load_file(whole / BEST))


def test_each_process_keeps_about_half_of_the_parameters_and_their_average(tmp_path: Path) -> None:
    model = full().resolved().model.build()
    scale = nn.Parameter(torch.tensor(2.0))
    model.register_parameter("scale", scale)  # as FCOS has them; it cannot be cut
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    everything = sum(p.numel() for p in model.parameters())

    def work() -> None:
        shards = Shards.of(model)
        own = sum(local_shard(p).numel() for p in model.parameters())
        assert own < 0.52 * everything
        average = EMAConfig().average(model)
        assert sum(local_shard(x).numel() for x in average.tensors.values()) < 0.55 * everything
        parts = {name for name, part in named_parts(model).items() if isinstance(part, FSDPModule)}
        assert {"", "backbone.layer1.0", "backbone.layer4.1", "neck"} <= parts
        state = shards.state()
        assert bool(state) == (distributed.rank() == 0)
        for name, tensor in state.items():
            assert torch.equal(tensor, expected[name])

    end(members(2, work, tmp_path / "meet"))


def named_parts(model: Any) -> dict[str, nn.Module]:
    return dict(model.named_modules())


def test_what_stands_in_lists_of_a_backbone_is_fetched_by_itself() -> None:
    block = nn.ModuleList([nn.Sequential(nn.Linear(1, 1))])
    stage = nn.Module()
    stage.blocks = nn.ModuleList([nn.TransformerEncoderLayer(4, 1)])
    backbone = nn.Module()
    backbone.stages = nn.ModuleList([stage])
    backbone.stem = nn.Conv2d(1, 1, 1)
    backbone.plain = block
    assert list(units(backbone)) == [stage.blocks[0], stage]


def test_a_run_may_go_on_with_a_validation(tmp_path: Path) -> None:
    trained(tmp_path, sharding="fsdp", epochs=1)
    found = _last(tmp_path)
    state = json.loads((found / STATE).read_text())
    assert state["state"]["progress"]["epoch"] == 1
    state["state"]["progress"] |= {"epoch": 0, "step_in_epoch": 3}  # as after the steps of the first epoch
    (found / STATE).write_text(json.dumps(state))
    (tmp_path / BEST).unlink()
    state["state"]["progress"]["best"] = None
    (found / STATE).write_text(json.dumps(state))
    trained(tmp_path, sharding="fsdp", epochs=2)
    assert (tmp_path / BEST).is_file()


@pytest.mark.parametrize("size", [1, 3])
def test_another_number_of_processes_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "run"
    processes = members(2, lambda: run_training(full(sharding="fsdp", epochs=50), folder), folder)
    until(lambda: newest(folder) is not None and _number(newest(folder)) >= 2)
    kill(processes)
    found = newest(folder)
    assert found is not None
    before = load_sharded_weights(found)
    step = json.loads((found / STATE).read_text())["state"]["progress"]["step"]
    moments = stored_moments(found)

    def work() -> None:
        log = Log(tmp_path / f"log{distributed.rank()}", quiet=True)
        given = full(sharding="fsdp", epochs=50).resolved()
        trainer = given.trainer.build(Run(experiment=given, folder=folder, log=log, interrupts=Interrupts()))
        trainer.resume()
        assert trainer.progress.step == step * 2 // size
        assert isinstance(trainer.store, Sharded)
        assert trainer.ema
        average = full_tensors(trainer.ema.tensors)
        assert_close(average, before if distributed.rank() == 0 else {}, 0)
        state = trainer.optimizer.state_dict()["state"]
        for index, values in moments.items():
            own = full_tensors(state[index])
            assert_close(own, values if distributed.rank() == 0 else {}, 0)

    end(members(size, work, tmp_path / "meet"))


def stored_moments(folder: Path) -> dict[int, dict[str, Tensor]]:
    """What the shards hold of the optimizer's state, put together by hand."""
    found: dict[int, dict[str, list[Tensor]]] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                found.setdefault(int(index), {}).setdefault(key, []).append(tensor)
    return {
        index: {key: torch.cat(parts) if parts[0].ndim else parts[0] for key, parts in values.items()}
        for index, values in found.items()
    }


def test_killed_and_resumed_it_ends_in_the_same_weights(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path / "a", sharding="fsdp")
    folder, chance = tmp_path / "b", random.Random(0)  # noqa: S311
    for reached in (1, 4):
        processes = members(2, lambda: run_training(full(sharding="fsdp"), folder, resume=True), folder)
        until(partial(_reached, folder, reached))
        time.sleep(chance.uniform(0, 0.3))
        kill(processes)
    trained(folder, sharding="fsdp")
    one, two = last_weights(undisturbed), last_weights(folder)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert [path.name for path in folder.glob("last.sharded-*")] == [_last(folder).name]
    assert not list(folder.glob(".*.tmp"))
    model, _ = load_model(folder, allow=["tests"])  # what eval and predict read
    assert_close(load_file(folder / BEST), model.state_dict(), 0)
    (folder / BEST).unlink()
    model, _ = load_model(folder, allow=["tests"])
    assert_close(two, model.state_dict(), 0)
    spoil(_last(folder))


def spoil(path: Path) -> None:
    """Each part of a checkpoint in shards that is missing or no longer itself is noticed."""
    shards = sorted(path.glob("*.safetensors"))
    assert len(shards) == 2
    for shard in shards:
        content = shard.read_bytes()
        shard.write_bytes(content[:-1])
        with pytest.raises(CheckpointError, match=f"{shard.name} is missing or of another size"):
            load_weights(path)
        shard.unlink()
        with pytest.raises(CheckpointError, match=f"{shard.name} is missing or of another size"):
            load_weights(path)
        shard.write_bytes(content)
    state = json.loads((path / STATE).read_text())
    content = shards[0].read_bytes()
    shards[0].unlink()
    del state["files"][shards[0].name]
    (path / STATE).write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="lacks a part of"):
        load_weights(path)
    shards[0].write_bytes(b"\x80\x04" + content[2:])
    state["files"][shards[0].name] = len(content)
    (path / STATE).write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_weights(path)
    (path / STATE).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_weights(path)


def test_a_checkpoint_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path / "whole")
    with pytest.raises(RunError, match=r"trainer.sharding=none, and now it is fsdp.*load_from="):
        run_training(experiment(sharding="fsdp"), tmp_path / "whole", resume=True)
    run_training(experiment(epochs=1, sharding="fsdp"), tmp_path / "cut")
    assert not (tmp_path / "cut" / LAST).exists()
    with pytest.raises(RunError, match=r"trainer.sharding=fsdp, and now it is none.*load_from="):
        run_training(experiment(), tmp_path / "cut", resume=True)
    begun = experiment(epochs=1, load_from=str(newest(tmp_path / "cut")))
    run_training(begun, tmp_path / "begun")


def test_scaled_gradients_are_not_cut() -> None:
    with pytest.raises(ConfigError, match=r"sharding is 'fsdp' and amp is 'fp16'.*bf16"):
        experiment(sharding="fsdp", amp="fp16").resolved()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(experiment(epochs=1, sharding="fsdp"), tmp_path)
    before = _last(tmp_path)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.distributed.checkpoint.filesystem._write_files_from_queue", full_disk)
    with pytest.raises(RunError, match=r"No space left on device.*Make room"):
        run_training(experiment(epochs=2, sharding="fsdp"), tmp_path, resume=True)
    assert newest(tmp_path) == before
    load_sharded_weights(before)


def _number(path: Path | None) -> int:
    return 0 if path is None else int(path.name.rpartition("-")[2])


def _reached(folder: Path, number: int) -> bool:
    return _number(newest(folder)) >= number


def _last(folder: Path) -> Path:
    found = newest(folder)
    assert found is not None
    return found


def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it did not come about within 100 s")


def kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0}
