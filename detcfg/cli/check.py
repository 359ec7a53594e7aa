"""`detcfg check`: would this experiment train? Everything that can be said without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from attrs import evolve

from detcfg.cli.arguments import Allow, Experiment, Overrides, configured

if TYPE_CHECKING:
    from detcfg.data.base import Dataset, DatasetConfig
    from detcfg.data.errors import Problem
    from detcfg.engine.summary import Summary
    from detcfg.experiment import ExperimentConfig

SHOWN: Final = 50
"""Problems of a dataset to list in full."""


def check(
    experiment: Experiment,
    overrides: Overrides = None,
    *,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Read every image of the datasets, too.")
    ] = False,
    data: Annotated[
        bool, typer.Option("--data/--no-data", help="Hold the datasets against the config.")
    ] = True,
    height: Annotated[int, typer.Option(min=1, help="Of the image to count for, in pixels.")] = 800,
    width: Annotated[int, typer.Option(min=1, help="Of the image to count for, in pixels.")] = 1344,
    allow: Allow = None,
) -> None:
    """Resolve an experiment, count what it costs and check its data, without training.

    The model is built without weights. Exit code 1 if training could not start.
    """
    from detcfg.engine.summary import summarise

    config = configured(experiment, overrides, allow).resolved()
    summary = summarise(config.model, (height, width))
    typer.echo(f"{experiment}: every value is set, and the parts fit each other.\n")
    _print_summary(summary, (height, width))
    _check_memory(summary)
    if data and not _check_data(config, images=images):
        raise typer.Exit(1)


def _print_summary(summary: Summary, size: tuple[int, int]) -> None:
    from detcfg.cli.output import Table, print_table

    columns = ("part", "parameters", "trainable", "multiply-adds", "output")
    rows = Table(columns=columns, right=columns[1:4])
    for part in summary.parts:
        depth = part.name.count(".")
        rows.add(
            "  " * depth + part.name.rpartition(".")[2],
            f"{part.parameters:,}",
            f"{part.trainable:,}",
            _giga(part.multiply_adds),
            " ".join("x".join(map(str, shape)) for shape in part.shapes),
        )
    total = (f"{summary.parameters:,}", f"{summary.trainable:,}", _giga(summary.multiply_adds))
    rows.add("total", *total, f"for one image of {size[1]}x{size[0]}")
    print_table(rows)
    if summary.stopped:
        typer.echo(f"Counted up to an operator that needs values: {summary.stopped}")


def _check_memory(summary: Summary) -> None:
    """Refuse a model whose weights alone are more than this machine holds.

    Raises:
        ConfigError: They are.
    """
    from detcfg.config import ConfigError
    from detcfg.engine.summary import machine_memory

    held = machine_memory()
    if held is not None and summary.weight_bytes > held:
        raise ConfigError(
            f"model: its weights take {summary.weight_bytes:,} bytes, and this machine has {held:,}. "
            f"The largest is {summary.largest}: lower the channels or layers that it comes from."
        )


def _giga(count: int) -> str:
    return f"{count / 1e9:,.2f} G"


def _check_data(config: ExperimentConfig, *, images: bool) -> bool:
    """Print what each dataset holds and what is wrong with it; whether all of them can be used."""
    data = config.data
    sources = {"data.train": data.train, "data.val": data.val, "data.test": data.test}
    fine = [
        _check_dataset(name, source, images=images, with_mask=data.with_mask)
        for name, source in sources.items()
        if source
    ]
    return all(fine)


def _check_dataset(name: str, source: DatasetConfig, *, images: bool, with_mask: bool) -> bool:
    from detcfg.data.errors import DataError

    try:
        dataset = source.resolved().dataset(with_mask=with_mask)
    except DataError as error:
        message = _in_full(source, with_mask=with_mask) or error
        typer.secho(f"{name}: {message}", fg=typer.colors.RED, err=True)
        return False
    learnable = _print_dataset(name, dataset)
    unreadable = _scanned(dataset) if images else []
    problems = [*dataset.problems, *unreadable]
    for problem in problems[:SHOWN]:
        typer.echo(f"  {problem}")
    if len(problems) > SHOWN:
        typer.echo(f"  ... and {len(problems) - SHOWN} more.")
    errors = [problem for problem in unreadable if problem.severity == "error"]
    return learnable and (dataset.drop_invalid or not errors)


def _in_full(source: DatasetConfig, *, with_mask: bool) -> str:
    """Up to `SHOWN` faults, of which the error itself names a few; nothing if it was about something else."""
    from detcfg.data.errors import DataError
    from detcfg.data.files import FileDatasetConfig

    if not isinstance(source, FileDatasetConfig):
        return ""
    try:
        problems = evolve(source, drop_invalid=True).resolved().dataset(with_mask=with_mask).problems
    except DataError:
        return ""
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    rest = [f"... and {len(errors) - SHOWN:,} more."] if len(errors) > SHOWN else []
    remedy = "Put them right, or go on without what is faulty: set the dataset's drop_invalid to true."
    return (
        "\n".join([f"{len(errors):,} fault{'s' * (len(errors) > 1)}", *errors[:SHOWN], *rest, remedy])
        if errors
        else ""
    )


def _print_dataset(name: str, dataset: Dataset) -> bool:
    """Print what a dataset holds; whether something can be learned from it, if it is for that."""
    from detcfg.cli.output import Table, print_table
    from detcfg.data.summary import report
    from detcfg.errors import printable

    found = report(dataset)
    for line in found.lines(name):
        typer.echo(printable(line))
    rows = Table(columns=("class", "objects"), right=("objects",))
    for title, count in zip(dataset.classes, found.objects, strict=True):
        rows.add(title, f"{count:,}")
    print_table(rows)
    if name == "data.train" and not found.total:
        typer.secho(f"error: {name}: {printable(found.nothing)}", fg=typer.colors.RED, err=True)
        return False
    return True


def _scanned(dataset: Dataset) -> list[Problem]:
    """What is wrong with the images themselves."""
    from rich.console import Console
    from rich.progress import track

    steps = track(
        dataset.scan(), "reading images", total=len(dataset), console=Console(stderr=True), transient=True
    )
    return [problem for _, problem in steps if problem is not None]
