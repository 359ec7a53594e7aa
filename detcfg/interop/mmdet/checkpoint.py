"""MMDetection's checkpoints as safetensors, with a report of what fits the model.

    weights = read_checkpoint("epoch_12.pth")
    converted = convert(weights, load_experiment("double_head"), "runs/double_head")
    print(converted.report)

Nothing in a checkpoint is executed: tensors and plain data are taken, every other object is inert.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, cast

import attrs
import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import Backbone
from detcfg.config.load import SAVED_NAME
from detcfg.config.serialize import to_data
from detcfg.experiment import ExperimentConfig
from detcfg.interop.pickles import CheckpointError
from detcfg.interop.torch_files import TensorRecord, TorchFile, is_array, read_torch_file

STATE_KEYS: Final = ("state_dict", "model", "model_state_dict", "state_dict_ema", "module")
"""Where a checkpoint may keep the tensors, the first that is there."""
WEIGHTS_NAME: Final = "best.safetensors"
"""As a run names its weights, so that the folder can be evaluated."""
NAMES_OF_OLD: Final = re.compile(r"^bbox_head\.[a-z]+_(cls|reg|centerness)\.")
"""The last layers of anchor-free heads before 2.3: `fcos_cls` is `conv_cls` now."""
MAX_DEPTH: Final = 20


@frozen(kw_only=True)
class Weights:
    """The tensors of a checkpoint and what else in it is plain data."""

    path: Path
    tensors: dict[str, Tensor] = attrs.field(repr=False)
    meta: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    """Plain values of its `meta`: the epoch, the config's text, …"""
    notes: tuple[str, ...] = ()
    """What was left out or chosen, for the person."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, if the checkpoint has them (2.x: CLASSES; 3.x: dataset_meta)."""
        data: object = self.meta.get("dataset_meta")
        found: object = self.meta.get("CLASSES")
        if isinstance(data, dict):
            named = {str(key).lower(): value for key, value in cast("dict[object, object]", data).items()}
            found = named.get("classes", found)
        if not isinstance(found, list | tuple):
            return None
        return tuple(str(name) for name in cast("list[object]", found))

    @property
    def config_text(self) -> str | None:
        """The config of the run, resolved into one file."""
        text: object = self.meta.get("cfg", self.meta.get("config"))
        return text if isinstance(text, str) else None


@frozen(kw_only=True)
class Report:
    """Which tensors went where. `str()` of it is for the terminal."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """The model's tensors that the checkpoint lacks; they keep their initial values."""
    unexpected: tuple[str, ...]
    """The checkpoint's tensors that the model lacks."""
    mismatched: tuple[str, ...]
    """Tensors that both have in different shapes, with the two."""

    @property
    def complete(self) -> bool:
        """Whether each side has what the other has."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors matched"]
        for what in ("missing", "unexpected", "mismatched"):
            names = cast("tuple[str, ...]", getattr(self, what))
            lines[0] += f", {len(names)} {what}"
            lines += [f"  {what}: {name}" for name in names[:10]]
            if len(names) > 10:
                lines.append(f"  {what}: and {len(names) - 10} more")
        return "\n".join(lines)


@frozen(kw_only=True)
class Converted:
    """The tensors that fit a model, under its names."""

    weights: Weights
    tensors: dict[str, Tensor] = attrs.field(repr=False)
    report: Report


def read_checkpoint(path: str | Path) -> Weights:
    """The weights of a `.pth` file, of MMDetection 2.x or 3.x or another project, or of safetensors.

    Raises:
        CheckpointError: It cannot be read, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    file = read_torch_file(path)
    state, notes = _state(file)
    tensors = {name: tensor for name, value in state.items() if (tensor := file.tensor(value)) is not None}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name.")
    named, more = _cleaned(tensors)
    meta = plain(_mapping(file.value).get("meta"))
    return Weights(
        path=path,
        tensors=named,
        meta=cast("dict[str, Any]", meta) if isinstance(meta, dict) else {},
        notes=(*notes, *more),
    )


def convert(weights: Weights, experiment: ExperimentConfig, folder: str | Path) -> Converted:
    """Write what fits the experiment's model, and the experiment, as a run leaves them in its folder.

    Raises:
        CheckpointError: Nothing fits.
        ConfigError: The experiment contradicts itself.
    """
    resolved = experiment.resolved()
    with torch.device("meta"):
        model = resolved.model.build()
    converted = fitted(weights, model)
    if not converted.tensors:
        raise CheckpointError(
            f"{weights.path}: none of its {len(weights.tensors)} tensors fits the model. "
            f"It has {', '.join(list(weights.tensors)[:3])}, …; the model has "
            f"{', '.join(list(model.state_dict())[:3])}, …"
        )
    folder = Path(folder)
    write_weights(converted, folder / WEIGHTS_NAME)
    text = json.dumps(to_data(resolved), indent=2)
    _replaced(folder / SAVED_NAME, lambda path: path.write_text(text, encoding="utf-8"))
    return converted


def fitted(weights: Weights, model: nn.Module) -> Converted:
    """The tensors that fit `model`, which may be on the meta device.

    Weights of a backbone alone (torchvision's and timm's by the names they have there) are put into `model.backbone`.
    """
    state = model.state_dict()
    candidates = [_renamed(weights.tensors, state.keys())]
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, Backbone):
        candidates += [
            {f"backbone.{name}": tensor for name, tensor in named.items()}
            for named in (weights.tensors, backbone.rename_pretrained(weights.tensors))
        ]
    tensors = max(candidates, key=lambda named: len(state.keys() & named.keys()))
    common = state.keys() & tensors.keys()
    matched = [name for name in state if name in common and state[name].shape == tensors[name].shape]
    report = Report(
        matched=tuple(matched),
        missing=tuple(name for name in state if name not in common),
        unexpected=tuple(name for name in tensors if name not in common),
        mismatched=tuple(
            f"{name} is {_shape(tensors[name])} in the checkpoint and {_shape(state[name])} in the model"
            for name in state
            if name in common and state[name].shape != tensors[name].shape
        ),
    )
    return Converted(weights=weights, tensors={name: tensors[name] for name in matched}, report=report)


def write_weights(converted: Converted, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"format": "pt", "source": converted.weights.path.name, **(metadata or {})}
    if classes := converted.weights.classes:
        about["classes"] = json.dumps(classes)
    _replaced(path, lambda partial: save_file(converted.tensors, partial, about))


def _replaced(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path` and then put it there."""
    partial = path.with_name(f".{path.name}.part")
    write(partial)
    partial.replace(path)


def plain(value: object) -> Any:
    """Plain data without the inert objects in it; what is shared stays shared."""
    return _plain(value, 0, {})


def _plain(value: object, depth: int, made: dict[int, Any]) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if depth > MAX_DEPTH or not isinstance(value, dict | list | tuple):
        return None
    known = id(cast("object", value))
    if known not in made:
        made[known] = None  # for one that contains itself
        if isinstance(value, dict):
            items = cast("dict[object, object]", value).items()
            made[known] = {
                str(key): _plain(item, depth + 1, made)
                for key, item in items
                if isinstance(key, str | int | float)
            }
        else:
            made[known] = [_plain(item, depth + 1, made) for item in cast("list[object]", value)]
    return made[known]


def _state(file: TorchFile) -> tuple[dict[str, object], list[str]]:
    """The mapping of names to tensors in a checkpoint."""
    top = _mapping(file.value)
    for key in STATE_KEYS:
        inner = _mapping(top.get(key))
        if any(isinstance(value, TensorRecord) or is_array(value) for value in inner.values()):
            notes = ["The weights are the averaged ones (EMA)."] if "ema_state_dict" in top else []
            return inner, notes
    return top, []


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in cast("dict[object, object]", value).items() if isinstance(key, str)}


def _cleaned(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the prefix of DataParallel and what is no weight.

    That is the mean and std of MMDetection's preprocessor, which are in the config, and the buffers in
    which its 2.x hook keeps the weights before averaging.
    """
    notes: list[str] = []
    named = dict(tensors)
    while named and all(name.startswith("module.") for name in named):
        named = {name.removeprefix("module."): tensor for name, tensor in named.items()}
    buffered = {f"ema_{name.replace('.', '_')}" for name in named}
    dropped = [name for name in named if name.startswith("data_preprocessor.") or name in buffered]
    if any(name in buffered for name in dropped):
        notes.append("The weights are the averaged ones (EMA).")
    return {name: tensor for name, tensor in named.items() if name not in set(dropped)}, notes


def _renamed(tensors: Mapping[str, Tensor], model_names: Collection[str]) -> dict[str, Tensor]:
    """The tensors with names of older versions replaced, where the model has the new name and not the old one."""
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        now = NAMES_OF_OLD.sub(lambda match: f"bbox_head.conv_{match[1]}.", name)
        made[now if name not in model_names and now in model_names else name] = tensor
    return made


def _safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

    try:
        tensors = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    named, notes = _cleaned(tensors)
    return Weights(path=path, tensors=named, notes=tuple(notes))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
