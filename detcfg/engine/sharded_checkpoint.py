"""Checkpoints of a sharded training (FSDP2): a folder, into which each rank writes its shards.

`torch.distributed.checkpoint` reshards, so another number of ranks can go on. Its default format has a pickle,
`.metadata`, and reading that would execute what is in it. Its safetensors format has none: the header of each file
has the position of each shard as JSON. It holds tensors alone, so the rest of the state is in `state.json` beside the
shards.

A checkpoint is a folder `last.sharded-N`. It gets this name once all of it is safely on the disk, and only then
are older ones removed: the one with the greatest N is whole, whenever a rank is killed.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detcfg.engine import distributed
from detcfg.engine.checkpoint import (
    MALFORMED,
    CheckpointError,
    TrainingState,
    put_together,
    taken_apart,
    under,
)
from detcfg.engine.files import RunError, flush, is_disk_error, write_atomically

NAME: Final = "last.sharded"
STATE: Final = "state.json"
FORMAT: Final = "detcfg-sharded-1"
_NUMBERED: Final = re.compile(rf"{re.escape(NAME)}-(\d{{1,12}})")


def dcp() -> Any:
    """`torch.distributed.checkpoint`, whose types are partly unknown."""
    return import_module("torch.distributed.checkpoint")


def is_sharded(folder: Path) -> bool:
    """Whether a folder is a sharded checkpoint."""
    return (folder / STATE).is_file()


def newest(folder: Path) -> Path | None:
    """The last sharded checkpoint in the folder of a run."""
    found = [path for path in folder.glob(f"{NAME}-*") if _number(path) and is_sharded(path)]
    return max(found, key=_number, default=None)


def save_sharded(state: TrainingState, scalars: frozenset[str], folder: Path) -> None:
    """Write the state as the last checkpoint of a run. A collective: all ranks write into one folder.

    Args:
        state: Tensors are sharded, or the same on all ranks.
        scalars: Names of the parameters that have no dimensions when they are not sharded.
        folder: The run's.

    Raises:
        RunError: It cannot be written; the last checkpoint stays.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    tensors, rest = taken_apart(state)
    number = distributed.broadcast_from_rank0(_number(newest(folder)) + 1)
    temporary = folder / f".{NAME}-{number}.tmp"
    try:
        if distributed.rank() == 0:
            temporary.mkdir(parents=True)
        distributed.broadcast_from_rank0(None)  # until it is there
        with _without_warnings():
            dcp().save(
                _apart(tensors),
                storage_writer=dcp().HuggingFaceStorageWriter(str(temporary), save_distributed=True),
            )
        written = distributed.all_gather([path.name for path in _shards(temporary)])
        if distributed.rank() == 0:
            _check_that_all_are_here(written, temporary)
            text = json.dumps(
                {"format": FORMAT, "scalars": sorted(scalars), "files": _sizes(temporary), "state": rest}
            )
            write_atomically(temporary / STATE, lambda path: path.write_text(text, encoding="utf-8"))
            temporary.rename(folder / f"{NAME}-{number}")
            flush(folder)
            for path in folder.glob(f"{NAME}-*"):
                if 0 < _number(path) < number:
                    shutil.rmtree(path)
    except (CheckpointException, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        cause = next(filter(is_disk_error, _causes(error)), None)
        if cause is None:
            raise
        raise RunError(
            f"{folder} cannot be written: {cause}. The last checkpoint is still there. Make room, or choose another "
            "place with --work-dir; then go on with --resume."
        ) from error


def load_sharded(path: Path, model: nn.Module, optimizer: Optimizer) -> TrainingState:
    """Read what `save_sharded` wrote, each tensor sharded as its parameter in the model.

    Raises:
        CheckpointError: It is not whole, or something else.
    """
    header = _header(path)
    tensors = model.state_dict()
    parameters = _parameters(header, model, optimizer)

    def like(name: str) -> Tensor | None:
        kind, _, rest = name.partition(".")
        if kind != "optimizer":
            return tensors.get(rest)
        index = rest.partition(".")[0]
        return parameters[int(index)] if index.isdigit() and int(index) < len(parameters) else None

    try:
        sizes = _tensors(path)
        targets = {name: _target(size, dtype, like(name)) for name, (size, dtype) in sizes.items()}
        _read(path, targets)
        return put_together(targets, header["state"])
    except MALFORMED as error:
        raise _broken(path, error) from error


def load_sharded_weights(path: Path) -> dict[str, Tensor]:
    """The weights alone, unsharded; their moving average if there is one.

    Raises:
        CheckpointError: It is not whole, or something else.
    """
    header = _header(path)
    try:
        targets = {
            name: torch.empty(size, dtype=dtype)
            for name, (size, dtype) in _tensors(path).items()
            if not name.startswith("optimizer.")
        }
        _read(path, targets)
        weights = under("ema.", targets) or under("model.", targets)
        return {name: x.reshape(()) if name in header["scalars"] else x for name, x in weights.items()}
    except MALFORMED as error:
        raise _broken(path, error) from error


def _parameters(header: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> list[Tensor | None]:
    """The parameters that the saved state of the optimizer counts, None for one that the model lacks."""
    try:
        names: list[str] = header["state"]["progress"]["parameters"]
    except MALFORMED:  # of an earlier version, which resumes with the same groups alone
        return [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = dict(model.named_parameters())
    return [found.get(name) for name in names]


def _target(size: tuple[int, ...], dtype: torch.dtype, like: Tensor | None) -> Tensor:
    """An empty tensor to read into, sharded as another one if that has its shape."""
    if like is None or tuple(like.shape) != size:
        return torch.empty(size, dtype=dtype)
    return torch.empty_like(like.detach(), dtype=dtype)


def _tensors(path: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """The shape and the dtype of each tensor in the shards, every element of which is there.

    Raises:
        CheckpointError: Some are not.
    """
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    try:
        stored = dcp().HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error
    for name, entry in stored.items():
        assert isinstance(entry, TensorStorageMetadata)
        there = sum(prod(chunk.sizes) for chunk in entry.chunks)
        if there != prod(entry.size):
            raise CheckpointError(
                f"{path} lacks a part of {name}: {there} of {prod(entry.size)} numbers are there."
            )
        found[name] = tuple(entry.size), entry.properties.dtype
    return found


def _read(path: Path, targets: dict[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with _without_warnings():
            dcp().load(
                dict(targets),
                storage_reader=dcp().HuggingFaceStorageReader(str(path)),
                no_dist=not distributed.is_distributed(),
            )
    except (CheckpointException, SafetensorError, OSError, RuntimeError) as error:
        raise _broken(path, error) from error


def _header(path: Path) -> dict[str, Any]:
    """The content of `state.json`. All files that it lists are there, in the size that they were written in."""
    try:
        header: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r} and not {FORMAT!r}")
        files: Mapping[str, int] = header["files"]
        if (there := _sizes(path)) != files:
            wrong = sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))
            raise ValueError(f"{', '.join(wrong)} is missing or of another size")
    except (OSError, *MALFORMED) as error:
        raise _broken(path, error) from error
    return header


def _broken(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a whole checkpoint: {type(error).__name__}: {error}. "
        "Use another one, or start anew in another --work-dir."
    )


def _check_that_all_are_here(written: list[list[str]], folder: Path) -> None:
    here = {path.name for path in _shards(folder)}
    if missing := {name for names in written for name in names} - here:
        raise RunError(
            f"The processes of another machine wrote {', '.join(sorted(missing))} elsewhere than in {folder}. "
            "Give a --work-dir that all machines share."
        )


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in _shards(folder)}


def _number(path: Path | None) -> int:
    """Which checkpoint of the run it is, from 1 on; 0: none."""
    match = None if path is None else _NUMBERED.fullmatch(path.name)
    return int(match[1]) if match else 0


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without shared memory: where layers share weights, one has several names."""
    from torch.distributed.tensor import DTensor

    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        sharded: Any = tensor
        local = sharded.to_local() if isinstance(tensor, DTensor) else tensor
        pointer = local.untyped_storage().data_ptr()
        apart[name] = tensor.detach().clone() if pointer in seen else tensor.detach()
        seen.add(pointer)
    return apart


def _causes(error: Any) -> list[Exception]:
    """The error; for a `CheckpointException` the errors of the ranks."""
    return [failure[0] for failure in error.failures.values()] if hasattr(error, "failures") else [error]


def _without_warnings() -> warnings.catch_warnings:
    """Without torch's warnings that there is only one rank."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
