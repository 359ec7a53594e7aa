"""`detcfg benchmark`: how fast an experiment is, and how fast it could be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detcfg.cli.arguments import Allow, Experiment, Json, Overrides, configured

if TYPE_CHECKING:
    from detcfg.benchmark.report import Row


def benchmark(
    experiment: Experiment,
    overrides: Overrides = None,
    *,
    only: Annotated[
        Literal["training", "inference", "data", "evaluation", "start-up"] | None,
        typer.Option(help="Measure this alone."),
    ] = None,
    against: Annotated[
        Literal["torchvision"] | None,
        typer.Option(help="Let torchvision's Faster R-CNN take its turns beside training and inference."),
    ] = None,
    height: Annotated[int, typer.Option(min=32, help="Of the images, in pixels.")] = 800,
    width: Annotated[int, typer.Option(min=32, help="Of the images, in pixels.")] = 1333,
    batch: Annotated[int, typer.Option(min=1, help="Images in a training step.")] = 2,
    eval_images: Annotated[int, typer.Option(min=1, help="Images that are evaluated.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each piece of work takes.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    as_json: Json = False,
    allow: Allow = None,
) -> None:
    """Measure training, inference, data pipeline, evaluation and start-up, on random images.

    Beside a model's work stands its limit: its matmuls and convolutions, run alone on the same
    shapes. The pipeline takes turns with OpenCV's where that is installed, the evaluation with pycocotools'.
    Ratios are medians over turns, so that they hold on a machine that is busy with other things.
    """
    from attrs import asdict

    from detcfg.benchmark.report import WORK, BenchmarkOptions, measure
    from detcfg.cli.output import write_json

    options = BenchmarkOptions(
        work=WORK if only is None else (only,),
        size=(height, width),
        batch=batch,
        eval_images=eval_images,
        rounds=rounds,
        against=against,
    )
    rows = measure(configured(experiment, overrides, allow), options)
    figures = {"options": asdict(options), "rows": [asdict(row) for row in rows]}
    if out is not None:
        write_json(out, figures)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print_rows(rows)


def _print_rows(rows: list[Row]) -> None:
    from detcfg.cli.output import Table, print_table

    columns = (
        "work",
        "seconds",
        "matmuls, convs alone",
        "everything else",
        "memory",
        "peer",
        "times as fast",
        "memory by its",
    )
    table = Table(columns=columns, right=(*columns[1:5], *columns[6:]))
    for row in rows:
        table.add(
            row.name,
            f"{row.seconds:.3f}",
            _figure(row.limit_seconds, ".3f"),
            _figure(row.outside, ".0%"),
            _mib(row.peak_bytes),
            row.peer or "",
            _figure(row.against, ".2f"),
            _figure(row.against_memory, ".2f"),
        )
    print_table(table)


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _mib(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.0f} MiB"
