"""`detcfg show-config`: every value of an experiment, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from detcfg.cli.arguments import Allow, Experiment, Overrides, configured, overridden_paths

if TYPE_CHECKING:
    from detcfg.cli.output import Table
    from detcfg.config.provenance import Entry

LONG: Final = 12
"""A tuple of more items than this is cut in the tree."""


class Format(StrEnum):
    """How to print a config."""

    TREE = "tree"
    PYTHON = "python"
    JSON = "json"


def show_config(
    experiment: Experiment,
    overrides: Overrides = None,
    *,
    format: Annotated[  # noqa: A002 - it is the option's name
        Format,
        typer.Option(
            help="tree: each value with the file and line, the `wired` or the command line that set it. "
            "python: one expression, with nothing inherited. json: what a run saves, resolved."
        ),
    ] = Format.TREE,
    types: Annotated[
        bool, typer.Option("--types", help="Say in the tree what each field takes, with its range.")
    ] = False,
    allow: Allow = None,
) -> None:
    """Print every value of an experiment and where it comes from."""
    config = configured(experiment, overrides, allow)
    if format is Format.JSON:
        import json

        from detcfg.config.serialize import to_data

        typer.echo(json.dumps(to_data(config.resolved()), indent=2))
        return
    if format is Format.PYTHON:
        from detcfg.config.python import to_python

        config.resolved()  # what contradicts itself is not worth pasting
        typer.echo(to_python(config, flat=True))
        return
    from detcfg.cli.output import print_table
    from detcfg.config.provenance import trace

    print_table(_tree(trace(config, overridden_paths(overrides)), types=types))


def _tree(entries: Iterable[Entry], *, types: bool) -> Table:
    """A row a field, indented by its depth: derived values dim, the command line's yellow."""
    from detcfg.cli.output import Table
    from detcfg.config.provenance import COMMAND_LINE

    table = Table(columns=("field", "value", *(["takes"] if types else []), "from"))
    parts: dict[str, object] = {}
    for entry in entries:
        *above, name = entry.path.split(".")
        style = "yellow" if entry.source == COMMAND_LINE else "" if entry.given else "dim"
        parts[entry.path] = entry.value
        takes = [_takes(parts.get(".".join(above)), name)] if types and above else [""] * types
        table.add("  " * len(above) + name, shown(entry.value), *takes, entry.source, style=style)
    return table


def _takes(owner: object, name: str) -> str:
    """What a field of a component takes; nothing for an item of a tuple."""
    from detcfg.config import Config
    from detcfg.config.types import describe, field_types

    return describe(field_types(type(owner))[name]) if isinstance(owner, Config) else ""


def shown(value: object) -> str:
    """A component by its class, since its fields follow; a long tuple by its first items."""
    from detcfg.config import Config

    if isinstance(value, Config):
        return type(value).__name__
    if not isinstance(value, tuple):
        return repr(value)
    items = cast("tuple[object, ...]", value)
    if len(items) > LONG:
        first = ", ".join(map(shown, items[:3]))
        return f"({first}, ... {len(items)} in all)"
    return "(" + ", ".join(map(shown, items)) + ("," if len(items) == 1 else "") + ")"
