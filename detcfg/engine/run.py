"""A training from its folder on: who may write there, what is there already, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from detcfg.engine import distributed
from detcfg.engine.checkpoint import CheckpointError, save_experiment
from detcfg.engine.faults import explained
from detcfg.engine.files import RunError, only_run
from detcfg.engine.interrupts import Interrupts
from detcfg.engine.log import Log
from detcfg.engine.resuming import changes_since, of_the_model, shown
from detcfg.engine.store import last_checkpoint
from detcfg.engine.trainer import Run
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
        resume: Go on from the last checkpoint, with the values of `experiment`, and say which of them changed;
            without a checkpoint, begin.
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
        last = distributed.broadcast_from_rank0(last_checkpoint(experiment.trainer, folder))
        changes: list[str] = []
        if last is not None and not resume:
            raise RunError(
                f"{folder} holds a training already. Go on with it by --resume, or choose another --work-dir."
            )
        with closing(Log(folder, quiet=not first)) as log:
            try:
                if last is not None:
                    changes = distributed.broadcast_from_rank0(
                        changes_since(experiment, folder) if first else changes
                    )
                    for line in shown(changes):
                        log.say(line)
                run = Run(experiment=experiment, folder=folder, log=log, interrupts=interrupts)
                trainer = experiment.trainer.build(run)
                if last is not None:
                    trainer.resume()
                if first:  # only what is trained: a refused experiment leaves the one from before
                    save_experiment(experiment, folder)
                begin()
                with closing(trainer):
                    return trainer.run()
            except CheckpointError as error:
                raise CheckpointError(f"{error}{of_the_model(changes)}") from error
            except (RuntimeError, MemoryError) as error:
                if found := explained(error, experiment):
                    raise found from error
                raise
