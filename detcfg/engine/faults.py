"""What goes wrong while a training runs, said so that a person can put it right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from detcfg.config.base import nearest
from detcfg.data.base import ImageInfo
from detcfg.engine.checkpoint import CheckpointError
from detcfg.engine.files import RunError
from detcfg.experiment import ExperimentConfig

_NO_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
_SHOWN: Final = 16


def no_metric(name: str, metrics: Collection[str]) -> RunError:
    """`trainer.save_best` is none of the evaluator's metrics."""
    near = nearest(name, metrics)
    hint = "" if near is None else f"Did you mean {near!r}? "
    return RunError(
        f"trainer.save_best={name!r} is no metric of this run. {hint}It has {', '.join(metrics)}."
    )


def other_sharding(path: Path, kind: str, sharding: str) -> RunError:
    """A run would go on with another `trainer.sharding` than it was begun with.

    Args:
        path: Its last checkpoint.
        kind: The `trainer.sharding` that wrote it.
        sharding: The one of now.
    """
    return RunError(
        f"{path.parent} holds the checkpoint of a training with trainer.sharding={kind}, and now it is "
        f"{sharding}. Go on with {kind}; or begin from its weights in another --work-dir: trainer.load_from={path}."
    )


def other_optimizer(path: Path, error: Exception | str) -> CheckpointError:
    """The state of the optimizer does not fit the one that the config names."""
    return CheckpointError(
        f"{path} does not fit trainer.optimizer: {error}. Go on with the one that it was trained with, or "
        "begin anew from its weights: trainer.load_from, in another --work-dir."
    )


def non_finite(losses: Mapping[str, float], images: Sequence[ImageInfo], step: int) -> RunError:
    """The loss is not finite.

    Args:
        losses: By name, with their sum as `loss`.
        images: Those of the batches whose loss it is.
        step: Counted from 0.
    """
    culprits = [name for name, value in losses.items() if name != "loss" and not abs(value) < float("inf")]
    return RunError(
        f"step {step + 1}: the loss is {losses['loss']}"
        + (f" ({', '.join(f'{name} {losses[name]}' for name in culprits)})" if culprits else "")
        + f". The images:\n{_listed(f'{info.path} (id {info.image_id})' for info in images)}\n"
        "The last checkpoint is from before. Look at these images and their boxes; or lower "
        "trainer.optimizer.lr, set trainer.clip_grad, lengthen trainer.schedule.warmup_iters; then --resume."
    )


def broken_weights(names: Sequence[str], steps: int) -> RunError:
    """A step whose loss was finite left weights that are not.

    Args:
        names: Of the parameters.
        steps: How many were done.
    """
    return RunError(
        f"step {steps}: {len(names)} parameters are not finite any more ({', '.join(names[:3])}"
        f"{' ...' if len(names) > 3 else ''}), so they are not saved. The last checkpoint is from before. Lower "
        "trainer.optimizer.lr, set trainer.clip_grad, lengthen trainer.schedule.warmup_iters; then --resume."
    )


def too_many_skipped(skipped: int, most: int, last: Sequence[str]) -> RunError:
    """More images were unreadable than the config allows."""
    return RunError(
        f"{skipped} images could not be read, more than trainer.max_skipped={most}. The last:\n"
        f"{_listed(last)}\nPut them right (`detcfg check --images` lists all), or raise the limit; then --resume."
    )


def explained(error: BaseException, experiment: ExperimentConfig) -> RunError | None:
    """A run's error for one of torch's that a person can do something about; None for any other."""
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in text for sign in _NO_MEMORY):
        return _out_of_memory(experiment, text)
    if "DataLoader worker" in text:
        return RunError(
            f"A process that reads images is gone: {text.splitlines()[0]} It may have been killed since the "
            "machine ran out of memory: lower data.num_workers (now "
            f"{experiment.data.num_workers}). The last checkpoint stays; go on with --resume."
        )
    return None


def _out_of_memory(experiment: ExperimentConfig, text: str) -> RunError:
    batch, trainer = experiment.data.batch_size, experiment.trainer
    advice: list[str] = []
    if batch > 1:
        half = batch // 2
        steps = trainer.accumulate * -(-batch // half)
        advice.append(
            f"data.batch_size={half} trainer.accumulate={steps} (now {batch} and {trainer.accumulate}) "
            "needs about half, for the same step"
        )
    if trainer.amp == "none":
        advice.append("trainer.amp=bf16 (now none) needs about two thirds")
    advice.append("a smaller data.train_transforms.0.scale shrinks the images")
    lines = "\n".join(f"  - {line}" for line in advice)
    return RunError(
        f"Out of memory: {text.splitlines()[0] if text else 'the machine has none left'}\n"
        f"Lower what a step needs:\n{lines}\nThe last checkpoint stays; go on with --resume."
    )


def _listed(items: Iterable[str]) -> str:
    lines = [f"  {item}" for item in items]
    return "\n".join(
        lines[:_SHOWN] + ([f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
    )
