"""Checkpoints: what goes in comes out, and what does not fit or is no data is refused."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
from pathlib import Path

import pytest
import torch
from attrs import evolve
from safetensors.torch import save_file

from detcfg.backbones.pretrained import read_tensors
from detcfg.config import ConfigError
from detcfg.engine.checkpoint import (
    BEST,
    FORMAT,
    LAST,
    CheckpointError,
    TrainingState,
    load_training,
    save_experiment,
    save_training,
    save_weights,
)
from detcfg.engine.run import run_training
from detcfg.engine.weights import checkpoint_file, load_model, load_weights, put_weights
from detcfg.recipe.optimizers import AdamWConfig
from tests.support.tiny import Experiment, experiment


def with_more_classes() -> Experiment:
    """The experiment with two of the demo's four classes, so that its last layers are smaller."""
    given = experiment()
    train, val = (evolve(data, classes=("disc", "square")) for data in (given.data.train, given.data.val))
    return evolve(given, data=evolve(given.data, train=train, val=val))


def test_the_state_of_an_optimizer_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 0.5, "initial_lr": 0.25}])
    weight.grad = torch.tensor([0.1, -0.3])
    optimizer.step()
    state = TrainingState(
        model={"w": weight, "same": weight},  # a shared parameter
        ema=None,
        optimizer=optimizer.state_dict(),
        progress={"best": 0.1 + 0.2, "epoch": 3},
    )
    save_training(state, tmp_path / LAST)
    read = load_training(tmp_path / LAST)
    assert read.progress == state.progress
    assert read.optimizer["param_groups"] == json.loads(json.dumps(state.optimizer["param_groups"]))
    for name, value in state.optimizer["state"][0].items():
        assert torch.equal(read.optimizer["state"][0][name], value)
    assert torch.equal(read.model["w"], weight)
    assert torch.equal(read.model["same"], weight)


def test_a_checkpoint_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    save_weights({"w": torch.arange(8.0)}, tmp_path / BEST)
    whole = (tmp_path / BEST).read_bytes()
    for length in range(0, len(whole), 5):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            load_weights(tmp_path / "cut.safetensors")


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    save_weights({"w": torch.zeros(1)}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="not the state of a training"):
        load_training(tmp_path / LAST)


def test_the_average_counts_where_there_is_one(tmp_path: Path) -> None:
    state = TrainingState(
        model={"w": torch.zeros(1)},
        ema={"w": torch.ones(1)},
        optimizer={"state": {}, "param_groups": []},
        progress={},
    )
    save_training(state, tmp_path / LAST)
    assert float(load_weights(tmp_path / LAST)["w"]) == 1


def test_the_checkpoint_of_a_folder_is_its_best_or_else_its_last(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint_file(tmp_path)
    (tmp_path / LAST).touch()
    assert checkpoint_file(tmp_path) == tmp_path / LAST
    (tmp_path / BEST).touch()
    assert checkpoint_file(tmp_path) == tmp_path / BEST


def test_the_checkpoint_of_another_model_is_refused_with_counts() -> None:
    model = experiment().resolved().model.build()
    other = with_more_classes().resolved().model.build()
    tensors = other.state_dict() | {"extra.weight": torch.zeros(1)}
    del tensors["neck.fpn_convs.0.conv.bias"]
    differing = [
        name
        for name, tensor in model.state_dict().items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    with pytest.raises(CheckpointError) as error:
        put_weights(model, tensors, "other.safetensors")
    said = str(error.value)
    assert f"{len(tensors) - 1 - len(differing)} tensors match" in said
    assert "1 missing (neck.fpn_convs.0.conv.bias)" in said
    assert "1 unexpected (extra.weight)" in said
    assert f"{len(differing)} of another shape (roi_head.bbox_head.fc_cls.weight: 3x8 for 5x8" in said


def test_what_fits_of_another_model_is_loaded_if_asked_for(tmp_path: Path) -> None:
    other = with_more_classes().resolved().model.build()
    save_weights(other.state_dict(), tmp_path / BEST)
    save_experiment(experiment(), tmp_path)
    with pytest.raises(CheckpointError, match="of another shape"):
        load_model(tmp_path, allow=["tests"])
    model, _ = load_model(tmp_path, allow=["tests"], partial=True)
    assert torch.equal(
        model.state_dict()["backbone.conv1.weight"], other.state_dict()["backbone.conv1.weight"]
    )


def test_a_training_begins_from_the_weights_that_it_is_given(tmp_path: Path) -> None:
    other = with_more_classes().resolved().model.build()
    save_weights(other.state_dict(), tmp_path / "other.safetensors")
    given = experiment(load_from=str(tmp_path / "other.safetensors"), epochs=1)
    with pytest.raises(CheckpointError, match="load_partial"):
        run_training(given, tmp_path / "run")
    run_training(evolve(given, trainer=evolve(given.trainer, load_partial=True)), tmp_path / "run")


def test_a_checkpoint_of_another_model_is_not_resumed(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        run_training(with_more_classes(), tmp_path, resume=True)


def header(text: str | bytes, size: int | None = None) -> bytes:
    """A safetensors file of this header and nothing else, which says that it has `size` bytes."""
    content = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(content) if size is None else size) + content


BOMBS = {
    "no header": b"",
    "half a length": b"\x08\0\0",
    "a length beyond all memory": header("{}", 2**63),
    "a length beyond the file": header("{}", 2**30),
    "a deep header": header("[" * 100_000),
    "a deep object": header('{"a":' * 100_000),
    "no text": header(b"\xff\xfe\0"),
    "a huge shape": header(
        '{"w": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}}'
    ),
    "offsets beyond the file": header('{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'),
    "offsets that go back": header('{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}') + b"1234",
    "an unknown kind": header('{"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}') + b"1234",
    "two tensors in one place": header(
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        ' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    )
    + b"1234",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_lies_is_refused_at_once(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / LAST, tmp_path / "weights.safetensors"):
        path.write_bytes(BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_training(tmp_path / LAST)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_weights(tmp_path / LAST)
    with pytest.raises(ConfigError, match="is not a safetensors file"):
        read_tensors(tmp_path / "weights.safetensors")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 1
    assert after.ru_maxrss - before.ru_maxrss < 100 * 1024


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "[" * 100_000,
        "{}",
        "[]",
        '{"optimizer": {"x": {}}, "groups": [], "progress": {}}',
        '{"optimizer": {"1": 3}, "groups": [], "progress": {}}',
        '{"optimizer": {}, "groups": 3, "progress": {}}',
        '{"optimizer": {}, "groups": [], "progress": 3}',
    ],
)
def test_a_state_that_is_none_is_refused(tmp_path: Path, state: str | None) -> None:
    metadata = {"format": FORMAT} | ({} if state is None else {"state": state})
    save_file({"model.w": torch.zeros(1)}, tmp_path / LAST, metadata=metadata)
    with pytest.raises(CheckpointError, match="says that it holds the state of a training"):
        load_training(tmp_path / LAST)


def test_the_state_of_another_optimizer_is_not_resumed(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"trainer.optimizer: it is the state of SGD, not of AdamW.* begin anew"
    ):
        run_training(experiment(epochs=2, optimizer=AdamWConfig()), tmp_path, resume=True)


class Payload:
    """A pickle of it runs a command wherever it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt"])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1)}, "meta": Payload(tmp_path / "mark")}, tmp_path / name)
    with pytest.raises(ConfigError, match="does not load as weights only"):
        load_weights(tmp_path / name)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    with pytest.raises(ConfigError):
        load_weights(tmp_path / "raw.pth")
    (tmp_path / LAST).write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    with pytest.raises(CheckpointError):
        load_training(tmp_path / LAST)
    assert not (tmp_path / "mark").exists()
