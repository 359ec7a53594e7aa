"""A training from its folder on: who may write there, what is there already, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from detcfg.engine import distributed
from detcfg.engine.checkpoint import LAST, save_experiment
from detcfg.engine.faults import explained
from detcfg.engine.files import RunError, only_run
from detcfg.engine.interrupts import Interrupts
from detcfg.engine.log import Log
from detcfg.engine.sharded_checkpoint import newest
from detcfg.engine.trainer import Trainer
from detcfg.experiment import ExperimentConfig


def run_training(
    experiment: ExperimentConfig,
    folder: Path,
    *,
    resume: bool = False,
    begin: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Train an experiment in a folder; the figures of the last validation.

    Args:
        experiment: In the given or the resolved state.
        folder: Where checkpoints and logs go; one run at a time writes there.
        resume: Go on from the last checkpoint; without one, begin.
        begin: Called when nothing is in the way of the run, before its first step.

    Raises:
        ConfigError: The experiment is wrong.
        DataError: Its data cannot be used.
        Interrupted: A signal stopped the run; its state is saved.
        RunError: The run cannot start or go on; the last checkpoint stays.
    """
    experiment = experiment.resolved()
    first = distributed.rank() == 0
    with only_run(folder) if first else nullcontext(), Interrupts() as interrupts:
        there = distributed.broadcast_from_rank0(_has_checkpoint(experiment, folder))
        if there and not resume:
            raise RunError(
                f"{folder} holds a training already. Go on with it by --resume, or choose another --work-dir."
            )
        with closing(Log(folder, quiet=not first)) as log:
            try:
                trainer = Trainer(experiment, folder, log, interrupts)
                if first:
                    save_experiment(experiment, folder)
                if there:
                    trainer.resume()
                begin()
                with closing(trainer):
                    return trainer.run()
            except (RuntimeError, MemoryError) as error:
                if found := explained(error, experiment):
                    raise found from error
                raise


def _has_checkpoint(experiment: ExperimentConfig, folder: Path) -> bool:
    """Whether there is one to go on from.

    Raises:
        RunError: It is of the other kind: whole where the experiment wants shards, or the other way round.
    """
    sharding = experiment.trainer.sharding
    kinds = {"none": (folder / LAST).is_file(), "fsdp": newest(folder) is not None}
    for kind, there in kinds.items():
        if there and kind != sharding:
            raise RunError(
                f"{folder} holds the checkpoint of a training with trainer.sharding={kind}, and now it is "
                f"{sharding}. Go on with {kind}; or begin from its weights in another --work-dir: "
                f"trainer.load_from={folder / LAST if kind == 'none' else newest(folder)}."
            )
    return kinds[sharding]
