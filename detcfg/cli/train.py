"""`detcfg train`: learn from an experiment's data."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Annotated

import typer

from detcfg.cli.arguments import Allow, Experiment, Overrides, configured


def train(
    experiment: Experiment,
    overrides: Overrides = None,
    *,
    work_dir: Annotated[
        Path | None,
        typer.Option(help="Where checkpoints and logs go. [default: runs/NAME of the experiment]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder, if there is one.")
    ] = False,
    allow: Allow = None,
) -> None:
    """Train an experiment, and judge it after each epoch.

    Ctrl-C and SIGTERM end it with a checkpoint.
    """
    from detcfg.engine.interrupts import Interrupted
    from detcfg.engine.run import run_training

    folder = work_dir or Path("runs") / Path(experiment).stem
    try:
        run_training(configured(experiment, overrides, allow), folder, resume=resume)
    except Interrupted as stopped:
        again = ["detcfg", "train", experiment, *(overrides or []), "--work-dir", str(folder), "--resume"]
        typer.echo(f"{stopped} To go on:\n\n    {shlex.join(again + _options(allow))}\n")
        # Clusters take any other code of a job that they stopped for a failure.
        raise typer.Exit(0 if stopped.signum == signal.SIGTERM else 128 + stopped.signum) from None


def _options(allow: list[str] | None) -> list[str]:
    return [word for module in allow or [] for word in ("--allow", module)]
