"""Weights of a checkpoint into a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor, nn

from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.backbones.pretrained import load_pretrained, read_tensors
from detcfg.config.load import SAVED_NAME
from detcfg.detectors.base import Detector
from detcfg.engine.checkpoint import BEST, FORMAT, LAST, CheckpointError, read_checkpoint, under
from detcfg.engine.sharded_checkpoint import is_sharded, load_sharded_weights, newest
from detcfg.experiment import ExperimentConfig, load_experiment
from detcfg.layers.state_dict import StateDictMatch


def put_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str | Path, *, partial: bool = False
) -> StateDictMatch:
    """Load tensors into a model.

    Args:
        model: Where to.
        tensors: By name.
        source: Where they come from, for the error.
        partial: Load what fits, rather than refuse what does not fit as a whole.

    Raises:
        CheckpointError: They do not fit the model: all of them, or with `partial` any.
    """
    match = StateDictMatch.of(model, tensors)
    if not match.matched or not (partial or match.complete):
        raise CheckpointError(
            f"{source} does not fit this model: {match}. Use the experiment that it was trained with"
            + ("." if partial else ", or ask for what fits (load_partial, --partial).")
        )
    match.load(model, tensors)
    return match


def load_initial_weights(detector: Detector, experiment: ExperimentConfig) -> str | None:
    """Load the weights that a training begins with: `trainer.load_from`, or else the backbone's `pretrained`.

    Returns:
        A line for the log; None if the experiment names no weights.

    Raises:
        CheckpointError: `load_from` is not there, not whole, or does not fit the detector.
        ConfigError: `pretrained` is not to be had, or nothing in it fits.
    """
    trainer = experiment.trainer
    if trainer.load_from is not None:
        path = Path(trainer.load_from)
        return f"{path}: {put_weights(detector, load_weights(path), path, partial=trainer.load_partial)}"
    # A detector that a user wrote need not have a backbone.
    backbone, config = (getattr(part, "backbone", None) for part in (detector, experiment.model))
    if isinstance(backbone, Backbone) and isinstance(config, BackboneConfig):
        match = load_pretrained(backbone, config)
        return None if match is None else f"{config.pretrained} into the backbone: {match}"
    return None


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
        CheckpointError: There is no such checkpoint, or it is broken or does not fit the model.
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
    """The weights in a checkpoint of detcfg or a foreign one; their moving average if there is one.

    A folder is a sharded checkpoint.

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
    """A checkpoint's file; for the folder of a run its best, or else its last (a folder if it is sharded).

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
