"""Checkpoints: one safetensors file each, the experiment beside it as JSON.

`last.safetensors` holds the state of the training: `model.*`, `ema.*`, `optimizer.*`, and what is no
tensor as JSON in the file's header. `best.safetensors` holds the weights alone, under their own names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from torch import Tensor

from detcfg.config.load import SAVED_NAME
from detcfg.config.serialize import to_data
from detcfg.engine.files import RunError, write_atomically
from detcfg.experiment import ExperimentConfig

LAST: Final = "last.safetensors"
BEST: Final = "best.safetensors"

FORMAT: Final = "detcfg-training-1"
"""Marks the state of a training, and its layout."""
MALFORMED: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What comes of data that is not what it says it is."""


class CheckpointError(RunError):
    """A checkpoint is broken, or does not fit the model or the optimizer."""


@frozen(kw_only=True)
class TrainingState:
    """All that a training needs to go on as if nothing had happened."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    """`Optimizer.state_dict()`."""
    progress: dict[str, Any]
    """Plain data: where the training stands."""


def save_experiment(experiment: ExperimentConfig, folder: Path) -> None:
    """Write the experiment where the checkpoints of `folder` will be looked for."""
    text = json.dumps(to_data(experiment.resolved()), indent=2)
    write_atomically(folder / SAVED_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def save_weights(model: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights alone."""
    _write(path, dict(model), {"format": "pt"})


def save_training(state: TrainingState, path: Path) -> None:
    """Write all of a training's state."""
    tensors, rest = taken_apart(state)
    _write(path, tensors, {"format": FORMAT, "state": json.dumps(rest)})


def taken_apart(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a state by name, and the rest of it, which is plain data."""
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in (state.ema or {}).items()}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state.optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {
        "progress": state.progress,
        "groups": state.optimizer["param_groups"],
        "optimizer": plain,
    }


def load_training(path: Path) -> TrainingState:
    """Read what `save_training` wrote.

    Raises:
        CheckpointError: It is not there, not whole, or something else.
    """
    tensors, header = read_checkpoint(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds weights, but not the state of a training, so it cannot go on.")
    try:
        return put_together(tensors, json.loads(header["state"]))
    except MALFORMED as error:
        raise CheckpointError(
            f"{path} says that it holds the state of a training, but it does not: {type(error).__name__}: {error}."
        ) from error


def put_together(tensors: Mapping[str, Tensor], rest: dict[str, Any]) -> TrainingState:
    """The state that `taken_apart` took apart; one of `MALFORMED` if it is none."""
    optimizer: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in rest["optimizer"].items()}
    for name, tensor in under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        optimizer.setdefault(int(index), {})[key] = tensor
    return TrainingState(
        model=under("model.", tensors),
        ema=under("ema.", tensors) or None,
        optimizer={"state": optimizer, "param_groups": [dict(group) for group in rest["groups"]]},
        progress=dict(rest["progress"]),
    )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _write(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str]) -> None:
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        flat = tensor.detach().to("cpu").contiguous()
        # Layers may share a parameter; the file has a copy for each name.
        pointer = flat.untyped_storage().data_ptr()
        separate[name] = flat.clone() if pointer in seen else flat
        seen.add(pointer)
    write_atomically(path, lambda temporary: save_file(separate, temporary, metadata=header))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    try:
        opened: Any = safe_open(str(path), framework="pt")
        with opened as file:
            header: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint: {error}. Use another one, or start anew in another --work-dir."
        ) from error
    return tensors, header
