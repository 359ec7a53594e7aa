"""The `detcfg` command: which commands there are, and how an error reaches the person.

Each command's module imports torch and the like inside its function, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from detcfg import __version__
from detcfg.cli.benchmark import benchmark
from detcfg.cli.check import check
from detcfg.cli.eval import evaluate
from detcfg.cli.evaluate_detections import evaluate_detections
from detcfg.cli.import_mmdet import import_mmdet
from detcfg.cli.import_torchvision import import_torchvision
from detcfg.cli.import_weights import import_weights
from detcfg.cli.list import list_components
from detcfg.cli.predict import predict
from detcfg.cli.show_config import show_config
from detcfg.cli.train import train
from detcfg.cli.upgrade import upgrade
from detcfg.errors import DetcfgError, printable

MAX_LINES: Final = 24
"""An error message longer than this does not fit on a small terminal, and is cut."""

app: Final = typer.Typer(
    name="detcfg",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # a bug keeps Python's own traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command(name="eval")(evaluate)
app.command()(predict)
app.command()(show_config)
app.command()(check)
app.command()(benchmark)
app.command()(evaluate_detections)
app.command(name="list")(list_components)
app.command()(import_mmdet)
app.command()(import_torchvision)
app.command()(import_weights)
app.command()(upgrade)


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        typer.echo(f"detcfg {__version__}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, evaluate and inspect object detectors made of typed parts."""


def run(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end. A mistake of the user's is one short message on stderr and exit code 1."""
    if str(Path.cwd()) not in sys.path:
        # A person's own modules go before those that are installed, as with `python -m`, but not before Python's.
        installed = (
            at for at, path in enumerate(sys.path) if Path(path).name in ("site-packages", "dist-packages")
        )
        sys.path.insert(next(installed, len(sys.path)), str(Path.cwd()))
    try:
        app(arguments)
    except DetcfgError as error:
        _print_error(str(error))
        _end(1)
    except SystemExit as end:
        _end(end.code)


def _end(code: int | str | None) -> NoReturn:
    """Leave with an exit code; one of several processes does so without dismantling its interpreter.

    Gloo's threads outlive their group, for torch's DistributedDataParallel keeps hold of it. One of them that drops its
    last tensor while Python is being dismantled aborts the process ("terminate called without an active exception").
    """
    if "WORLD_SIZE" in os.environ and (code is None or isinstance(code, int)):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    sys.exit(code)


def _print_error(message: str) -> None:
    lines = message.splitlines()
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"... and {len(lines) - MAX_LINES + 1} more lines."]
    text = printable("\n".join(lines))
    # click leaves the colour out where stderr is no terminal.
    typer.secho(f"error: {text}", fg=typer.colors.RED, err=True)
