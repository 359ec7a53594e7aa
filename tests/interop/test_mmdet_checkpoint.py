"""Checkpoints of MMDetection are read without running anything, and converted with an honest report."""

from __future__ import annotations

import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from detcfg import load_experiment
from detcfg.backbones.resnet import ResNetConfig
from detcfg.interop.mmdet.checkpoint import Weights, convert, fitted, plain, read_checkpoint, write_weights
from detcfg.interop.pickles import CheckpointError, Inert
from detcfg.interop.torch_files import read_torch_file
from tests.support import figures


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MMDetection's runner saved."""
    return figures.checkpoint_of_a_run(tmp_path_factory.mktemp("run"))


def test_the_checkpoint_of_a_run_gives_tensors_and_plain_data(run: Path) -> None:
    with pytest.raises(pickle.UnpicklingError):
        torch.load(run, weights_only=True)
    weights = read_checkpoint(run)
    assert weights.tensors["backbone.conv1.weight"].shape == (64, 3, 7, 7)
    assert weights.tensors["backbone.conv1.weight"].std() > 0
    assert len(weights.tensors) == 30
    assert weights.meta["epoch"] == 2
    assert weights.classes == ("a", "b")
    assert "DoubleHeadRoIHead" in (weights.config_text or "")


def test_objects_of_mmengine_stay_inert(run: Path) -> None:
    value = cast("Any", read_torch_file(run).value)
    buffer: object = value["message_hub"]["log_scalars"]["train/lr"]
    assert isinstance(buffer, Inert)
    assert buffer.name == "mmengine.logging.history_buffer.HistoryBuffer"
    assert cast("Any", buffer.state)["max_length"] == 1_000_000


def test_the_stem_and_first_stage_fit_a_resnet_18(run: Path) -> None:
    report = fitted(read_checkpoint(run), nn.ModuleDict({"backbone": ResNetConfig(depth=18).build()})).report
    assert len(report.matched) == 30
    assert not report.unexpected
    assert not report.mismatched
    assert all(
        name.startswith(("backbone.layer2", "backbone.layer3", "backbone.layer4")) for name in report.missing
    )


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(a=nn.Linear(3, 4), b=nn.BatchNorm1d(4)))


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "3.x": lambda state: {"meta": {"epoch": 1}, "state_dict": state, "optimizer": {}},
    "bare": lambda state: state,
    "another key": lambda state: {"model": state, "epoch": 3},
    "of DataParallel": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "with the preprocessor": lambda state: {
        "state_dict": {
            **state,
            "data_preprocessor.mean": torch.zeros(3),
            "data_preprocessor.std": torch.ones(3),
        }
    },
    "with averages of 2.x": lambda state: {
        "state_dict": {**state, **{f"ema_{name.replace('.', '_')}": t for name, t in state.items()}}
    },
    "with averages of 3.x": lambda state: {
        "state_dict": state,
        "ema_state_dict": {f"module.{name}": torch.zeros_like(t) for name, t in state.items()},
    },
    "with parameters": lambda state: {
        "state_dict": {n: nn.Parameter(t, t.is_floating_point()) for n, t in state.items()}
    },
    "with numpy arrays": lambda state: {"state_dict": {name: t.numpy() for name, t in state.items()}},
}


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before 1.6"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_tensors(tmp_path: Path, *, layout: str, archive: bool) -> None:
    state = model().state_dict()
    path = tmp_path / "x.pth"
    torch.save(LAYOUTS[layout](state), path, _use_new_zipfile_serialization=archive)
    found = read_checkpoint(path)
    assert found.tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found.tensors[name], tensor)
    assert fitted(found, model()).report.complete


def test_averaged_weights_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for layout in ("with averages of 2.x", "with averages of 3.x"):
        torch.save(LAYOUTS[layout](model().state_dict()), path)
        assert read_checkpoint(path).notes == ("The weights are the averaged ones (EMA).",)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before 1.6"])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).t(),
        torch.arange(12)[3:7],
        torch.zeros(0, 3),
        torch.tensor(3.5, dtype=torch.float64),
        torch.ones(2, dtype=torch.bfloat16),
        torch.tensor([True, False]),
    ],
    ids=["transposed", "a part", "empty", "a number", "bfloat16", "bool"],
)
def test_any_tensor_comes_back(tmp_path: Path, *, tensor: Tensor, archive: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": tensor, "b": torch.ones(2)}, path, _use_new_zipfile_serialization=archive)
    found = read_checkpoint(path).tensors["a"]
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)


def test_the_report_names_what_does_not_fit() -> None:
    tensors = {**model().state_dict(), "extra": torch.zeros(1), "a.bias": torch.zeros(5)}
    del tensors["b.weight"]
    report = fitted(Weights(path=Path("x"), tensors=tensors), model()).report
    assert report.missing == ("b.weight",)
    assert report.unexpected == ("extra",)
    assert report.mismatched == ("a.bias is 5 in the checkpoint and 4 in the model",)
    assert str(report).startswith("5 tensors matched, 1 missing, 1 unexpected, 1 mismatched")
    assert not report.complete


def test_layers_named_as_they_were_before_mmdetection_2_3() -> None:
    head = nn.ModuleDict(
        {"bbox_head": nn.ModuleDict({"conv_cls": nn.Linear(2, 2), "conv_centerness": nn.Linear(2, 1)})}
    )
    old = {
        name.replace("conv_cls", "fcos_cls").replace("conv_c", "fcos_c"): t
        for name, t in head.state_dict().items()
    }
    assert fitted(Weights(path=Path("x"), tensors=old), head).report.complete


def test_weights_of_torchvision_go_into_the_backbone() -> None:
    whole = nn.ModuleDict({"backbone": ResNetConfig(depth=18).build(), "neck": nn.Linear(2, 2)})
    tensors = {name.removeprefix("backbone."): t for name, t in whole["backbone"].state_dict().items()}
    report = fitted(Weights(path=Path("x"), tensors={**tensors, "fc.weight": torch.zeros(1)}), whole).report
    assert report.missing == ("neck.weight", "neck.bias")
    assert report.unexpected == ("backbone.fc.weight",)


def test_written_weights_load_and_say_where_they_are_from(tmp_path: Path) -> None:
    meta = {"CLASSES": ["cat", "dog"]}
    weights = Weights(path=Path("runs/x.pth"), tensors=model().state_dict(), meta=meta)
    out = tmp_path / "new" / "model.safetensors"
    write_weights(fitted(weights, model()), out)
    assert all(torch.equal(tensor, model().state_dict()[name]) for name, tensor in load_file(out).items())
    assert list(out.parent.iterdir()) == [out]
    again = read_checkpoint(out)
    assert again.tensors.keys() == weights.tensors.keys()


def test_a_checkpoint_becomes_the_folder_of_a_run(tmp_path: Path) -> None:
    experiment = load_experiment("faster_rcnn")
    with torch.device("meta"):
        state = experiment.resolved().model.build().state_dict()
    tensors = {f"module.{name}": torch.zeros(t.shape, dtype=t.dtype) for name, t in state.items()}
    torch.save({"state_dict": tensors}, tmp_path / "x.pth")
    converted = convert(read_checkpoint(tmp_path / "x.pth"), experiment, tmp_path / "run")
    assert converted.report.complete
    assert load_experiment(tmp_path / "run") == experiment.resolved()
    assert load_file(tmp_path / "run" / "best.safetensors").keys() == state.keys()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    weights = Weights(path=Path("x.pth"), tensors={"layer.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"x\.pth: none of its 1 tensors fits"):
        convert(weights, load_experiment("faster_rcnn"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Touch:
    """Pickles as a call of os.system."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before 1.6"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, *, archive: bool) -> None:
    path, target = tmp_path / "x.pth", tmp_path / "touched"
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "meta": {"x": Touch(target), "epoch": 2}},
        path,
        _use_new_zipfile_serialization=archive,
    )
    weights = read_checkpoint(path)
    assert weights.tensors["a"] == 1
    assert weights.meta == {"x": None, "epoch": 2}
    assert not target.exists()


def archive_with(path: Path, pickled: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", pickled)
        for name, data in entries.items():
            file.writestr(f"x/data/{name}", data)
    return path


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpu%stQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00%s%s\x89NtR"
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "text": b"hello",
    "no end": b"\x80\x02}",
    "nothing on the stack": b"\x80\x02R.",
    "an operation on nothing": b"\x80\x02}q\x00tb.",
    "a far memo": b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b"j\xfe\xff\xff\x7f.",
    "a long string that ends early": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "bytes that end early": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a long integer": b"I" + b"9" * 10_000 + b"\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a list as a key": b"\x80\x02}]Ns.",
    "a billion laughs as a key": b"\x80\x02}(NN" + b"t" + b"2\x86" * 60 + b"Ns.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "a tensor with less data": b"\x80\x02}X\x01\x00\x00\x00a"
    + TENSOR % (b"K\x64", b"K\x64\x85", b"K\x01\x85")
    + b"s.",
    "a tensor repeated without end": b"\x80\x02}X\x01\x00\x00\x00a"
    + TENSOR % (b"K\x01", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85")
    + b"s.",
    "a tensor before its data": b"\x80\x02}X\x01\x00\x00\x00a"
    + TENSOR % (b"K\x01", b"K\x01\x85", b"J\xff\xff\xff\xff\x85")
    + b"s.",
    "strides out of the data": b"\x80\x02}X\x01\x00\x00\x00a"
    + TENSOR % (b"K\x04", b"K\x02\x85", b"K\x63\x85")
    + b"s.",
    "one tensor under many names": b"\x80\x02}("
    + b"".join(
        b"X\x04\x00\x00\x00%04d" % n
        + (TENSOR % (b"M\xe8\x03", b"M\xe8\x03\x85", b"K\x01\x85") + b"q\x01" if not n else b"h\x01")
        for n in range(9000)
    )
    + b"u.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_or_hostile_pickle_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = archive_with(tmp_path / "x.pth", BROKEN[name], k=b"\x00" * (4000 if "names" in name else 16))
    start = time.process_time()
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"\x80\x02K\x01.", b"PK\x03\x04junk", b"x" * 100])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before 1.6"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, *, archive: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1000), "b": torch.ones(1000)}, path, _use_new_zipfile_serialization=archive)
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"\x80\x02}." + b"\x00" * 10**6)
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(path)


def test_shared_parts_of_meta_stay_shared() -> None:
    value: object = 1
    for _ in range(30):
        value = [value, value]
    start = time.process_time()
    made = plain({"a": value})["a"]
    assert made[0] is made[1]
    assert time.process_time() - start < 1
