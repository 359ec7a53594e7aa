"""`detcfg import-mmdet`: an MMDetection config as an experiment, its checkpoint as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from detcfg.cli.output import Table
    from detcfg.interop.mmdet.experiment import Imported
    from detcfg.interop.mmdet.survey import Survey


def import_mmdet(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="A config of MMDetection 2.x or 3.x, or the one that a run left in its folder.",
            show_default=False,
        ),
    ] = None,
    *,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A .pth file to convert too. It may stand alone if it holds its config."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The experiment to write; else experiments/NAME.py.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The folder for the converted checkpoint; else runs/NAME.")
    ] = None,
    survey: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write nothing; say which configs of a folder come over."),
    ] = None,
    config_root: Annotated[
        Path | None, typer.Option(help="MMDetection's folder of configs, for mmdet:: names.")
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Look for components in this module too. May be repeated.",
            show_default=False,
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run what is more than plain data in the config as Python.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an experiment that is there.")] = False,
) -> None:
    """Turn an MMDetection config into a typed experiment, and its checkpoint into safetensors.

    Neither MMDetection nor mmcv needs to be installed, and nothing in the config or the checkpoint is run.
    """
    from detcfg.cli.output import print_table
    from detcfg.config import ConfigError
    from detcfg.errors import printable

    if survey is not None:
        if config is not None or checkpoint is not None:
            raise ConfigError("--survey writes nothing: leave the config and --checkpoint out.")
        from detcfg.interop.mmdet.survey import survey as surveyed

        _print_survey(surveyed(survey, config_root=config_root, trust=trust, modules=module or ()))
        return
    from detcfg.interop.mmdet.command import import_mmdet as imported

    result = imported(
        config,
        checkpoint=checkpoint,
        out=out,
        weights=weights,
        config_root=config_root,
        trust=trust,
        force=force,
        modules=module or (),
    )
    print_table(_record(result.imported))
    typer.echo(f"\nThe experiment is {result.experiment}.")
    if result.converted is not None:
        typer.echo(f"The weights are in {result.weights}: {result.converted.report}")
        for note in result.converted.weights.notes:
            typer.echo(printable(note))


def _record(imported: Imported) -> Table:
    """What was carried in a line for each part, and each value that was not."""
    from collections import Counter

    from detcfg.cli.output import Table
    from detcfg.interop.mmdet.record import Status

    table = Table(columns=("in the source", "became", "written in", "note"))
    parts = Counter(".".join(entry.path.split(".")[:2]) for entry in imported.record.of(Status.CARRIED))
    for part, count in parts.items():
        table.add(part, Status.CARRIED.value, "", f"{count} value{'s' if count > 1 else ''}")
    for status, style in ((Status.DEFAULTED, "dim"), (Status.UNSUPPORTED, "yellow")):
        for entry in imported.record.of(status):
            place = "" if entry.location is None else f"{entry.location.file.name}:{entry.location.line}"
            table.add(entry.path, status.value, place, entry.note, style=style)
    return table


def _print_survey(found: Survey) -> None:
    from detcfg.cli.output import Table, print_table
    from detcfg.interop.mmdet.survey import Verdict

    configs = Table(columns=("config", "comes over", "why not"))
    for row in found.rows:
        reasons = "; ".join(row.reasons[:4]) + (
            f"; {len(row.reasons) - 4} more" if len(row.reasons) > 4 else ""
        )
        configs.add(str(row.path), row.verdict.value, reasons.splitlines()[0] if reasons else "")
    print_table(configs)
    if wanted := found.most_used():
        typer.echo()
        table = Table(
            columns=("component that detcfg lacks", "configs", "lack nothing else", "for instance"),
            right=("configs", "lack nothing else"),
        )
        for name, count, alone, path in wanted:
            table.add(name, str(count), str(alone), str(path))
        print_table(table)
    counts = found.counts()
    typer.echo("\n" + ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict))
