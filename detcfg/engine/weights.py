"""Weights into a model, with an account of what fitted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.pretrained import read_tensors
from detcfg.config.load import SAVED_NAME
from detcfg.detectors.base import Detector
from detcfg.engine.checkpoint import BEST, FORMAT, LAST, CheckpointError, read_checkpoint, under
from detcfg.engine.sharded_checkpoint import is_sharded, load_sharded_weights, newest
from detcfg.experiment import ExperimentConfig, load_experiment


@frozen(kw_only=True)
class LoadReport:
    """Which tensors of a file are in the model. `str()` of it is a line for the log."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """The model's tensors that the file lacks."""
    unexpected: tuple[str, ...]
    """The file's tensors that the model lacks."""
    mismatched: tuple[str, ...]
    """Tensors that both have, in different shapes."""

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors match"]
        for what, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.mismatched),
        ):
            rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} {what}" + (f" ({', '.join(names[:3])}{rest})" if names else ""))
        return ", ".join(parts)


def put_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str | Path, *, partial: bool = False
) -> LoadReport:
    """Load tensors into a model.

    Args:
        model: Where to.
        tensors: By name.
        source: Where they come from, for the error.
        partial: Load what fits, rather than refuse what does not fit as a whole.

    Raises:
        CheckpointError: They are of another model.
    """
    own = model.state_dict()
    common = own.keys() & tensors.keys()
    fitting = {name for name in common if own[name].shape == tensors[name].shape}
    optional = {name for name in own if name.endswith("num_batches_tracked")}  # old checkpoints lack it
    report = LoadReport(
        matched=tuple(name for name in own if name in fitting),
        missing=tuple(name for name in own if name not in common | optional),
        unexpected=tuple(name for name in tensors if name not in common),
        mismatched=tuple(
            f"{name}: {_size(tensors[name])} for {_size(own[name])}"
            for name in own
            if name in common - fitting
        ),
    )
    if not fitting or (not partial and (report.missing or report.unexpected or report.mismatched)):
        raise CheckpointError(
            f"{source} is of another model: {report}. Use the experiment that it was trained with"
            + ("." if partial else ", or ask for what fits (load_partial, --partial).")
        )
    model.load_state_dict({name: tensors[name] for name in fitting}, strict=False)
    return report


def load_model(
    path: str | Path,
    experiment: ExperimentConfig | None = None,
    *,
    allow: Collection[str] = (),
    partial: bool = False,
) -> tuple[Detector, ExperimentConfig]:
    """The model of a checkpoint, ready to predict, and its resolved experiment.

    Args:
        path: A .safetensors or .pth file, or the folder of a run: its best checkpoint, or else its last.
        experiment: What it was trained with; by default what is saved beside it.
        allow: Modules besides detcfg's whose classes the saved experiment may import.
        partial: Load what fits, rather than refuse what does not fit as a whole.

    Raises:
        CheckpointError: There is no such checkpoint, or it is broken or of another model.
        ConfigError: The experiment is wrong, or not there.
    """
    file = checkpoint_file(Path(path))
    experiment = experiment or load_experiment(file.parent / SAVED_NAME, allow)
    resolved = experiment.resolved()
    model = resolved.model.build()
    put_weights(model, load_weights(file), file, partial=partial)
    if resolved.trainer.channels_last:
        model.channels_last()
    return model.eval(), resolved


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of detcfg or a foreign one; the average if there is one.

    A folder is a checkpoint in shards.

    Raises:
        CheckpointError: It is not there or not whole.
        ConfigError: A .pth file holds more than tensors and plain data. Nothing in it is executed.
    """
    if path.is_dir():
        return load_sharded_weights(path)
    if path.suffix != ".safetensors":
        if not path.is_file():
            raise CheckpointError(f"There is no checkpoint {path}.")
        return read_tensors(path)
    tensors, header = read_checkpoint(path)
    if header.get("format") != FORMAT:
        return tensors
    return under("ema.", tensors) or under("model.", tensors)


def checkpoint_file(path: Path) -> Path:
    """A checkpoint's file; for the folder of a run its best, or else its last (a folder if it is in shards).

    Raises:
        CheckpointError: There is none.
    """
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    if is_sharded(path):
        return path
    if found := newest(path):
        return found
    raise CheckpointError(f"{path} holds no checkpoint: neither {BEST} nor {LAST}.")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
