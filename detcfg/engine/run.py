"""A training from its folder on: who may write there, what is there already, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from detcfg.engine import distributed
from detcfg.engine.checkpoint import save_experiment
from detcfg.engine.faults import explained
from detcfg.engine.files import RunError, only_run
from detcfg.engine.interrupts import Interrupts
from detcfg.engine.log import Log
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
        last = distributed.broadcast_from_rank0(last_checkpoint(experiment.trainer, folder))
        if last is not None and not resume:
            raise RunError(
                f"{folder} holds a training already. Go on with it by --resume, or choose another --work-dir."
            )
        with closing(Log(folder, quiet=not first)) as log:
            try:
                run = Run(experiment=experiment, folder=folder, log=log, interrupts=interrupts)
                trainer = experiment.trainer.build(run)
                if first:
                    save_experiment(experiment, folder)
                if last is not None:
                    trainer.resume()
                begin()
                with closing(trainer):
                    return trainer.run()
            except (RuntimeError, MemoryError) as error:
                if found := explained(error, experiment):
                    raise found from error
                raise
