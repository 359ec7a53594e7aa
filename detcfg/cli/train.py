"""`detcfg train`: train the detector of an experiment."""

from __future__ import annotations

import os
import shlex
import signal
import sys
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
    devices: Annotated[
        int, typer.Option(min=1, help="Processes that train together, each on a GPU if there are any.")
    ] = 1,
    allow: Allow = None,
) -> None:
    """Train an experiment, and evaluate it on its validation data after each epoch.

    Ctrl-C and SIGTERM end it with a checkpoint. Under torchrun, it trains along with the others.
    """
    from detcfg.engine import distributed
    from detcfg.engine.interrupts import Interrupted
    from detcfg.engine.launch import end_with_parent, launch
    from detcfg.engine.run import run_training

    config = configured(experiment, overrides, allow)
    config.resolved()  # a mistake is said once, before there are processes
    folder = work_dir or Path("runs") / Path(experiment).stem
    again = ["train", experiment, *(overrides or []), "--work-dir", str(folder), *_allowed(allow), "--resume"]
    under_torchrun = "WORLD_SIZE" in os.environ
    if devices > 1 and not under_torchrun:
        python = [sys.executable, "-m", "detcfg"]
        first = again if resume else again[:-1]
        raise typer.Exit(launch(python + first, python + again, devices))
    end_with_parent()
    with distributed.process_group() as attempt:
        try:
            run_training(config, folder, resume=resume or attempt.is_restart, begin=attempt.begin)
            if distributed.rank() == 0:
                run = shlex.quote(str(folder))
                typer.echo(
                    f"Trained in {folder}. Next: detcfg eval {run}, detcfg predict IMAGE --checkpoint {run}"
                )
        except Interrupted as stopped:
            if distributed.rank() == 0:
                typer.echo(f"{stopped} To go on:\n\n    {_command(again, devices)}\n")
            # Clusters take any other code of a job that they stopped for a failure.
            raise typer.Exit(0 if stopped.signum == signal.SIGTERM else 128 + stopped.signum) from None


def _allowed(allow: list[str] | None) -> list[str]:
    return [word for module in allow or [] for word in ("--allow", module)]


def _command(arguments: list[str], devices: int) -> str:
    """What a person types."""
    processes = int(os.environ.get("WORLD_SIZE", devices))
    if processes > 1:
        arguments = [*arguments, "--devices", str(processes)]
    return shlex.join(["detcfg", *arguments])
