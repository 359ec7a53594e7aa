"""`detcfg list`: the components that there are, a user's own included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detcfg.catalogue import Component
    from detcfg.cli.output import Table


def list_components(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Only components of this kind, such as backbone, mask head or loss; head for all heads.",
            show_default=False,
        ),
    ] = None,
    *,
    module: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            metavar="MODULE",
            help="List the components of this module or package too. May be repeated.",
            show_default=False,
        ),
    ] = None,
    fields: Annotated[
        bool, typer.Option("--fields", help="List the fields of each, what they take, and their defaults.")
    ] = False,
) -> None:
    """List components by kind, with what each is in a line.

    A component is put into an experiment by its class; on the command line as package.module:Class.
    """
    from itertools import groupby

    from detcfg.catalogue import KINDS, components, kinds_of
    from detcfg.cli.output import Table, print_table
    from detcfg.config import ConfigError, did_you_mean

    kinds = list(KINDS.values()) if kind is None else kinds_of(kind)
    if not kinds:
        raise ConfigError(f"There is no kind {kind!r}. {did_you_mean(str(kind), set(KINDS.values()))}")
    listed = [component for component in components(module or ()) if component.kind in kinds]
    for name, group in groupby(listed, key=lambda component: component.kind):
        if fields:
            print_table(_fields(name, list(group)))
            typer.echo()
            continue
        table = Table(columns=(name, "what it is", "where it is"))
        for component in group:
            table.add(component.cls.__name__, component.summary, component.path)
        print_table(table)
        typer.echo()


def _fields(kind: str, group: Sequence[Component]) -> Table:
    """A row a field: what it takes, with its range, and what it is if nobody says."""
    import attrs

    from detcfg.cli.output import Table
    from detcfg.cli.show_config import shown
    from detcfg.config import is_unset
    from detcfg.config.types import describe, field_types

    table = Table(columns=(kind, "takes", "default"))
    for component in group:
        table.add(component.cls.__name__, "", "")
        types = field_types(component.cls)
        for field in attrs.fields(component.cls):
            if field.default is attrs.NOTHING:
                default = "(required)"
            elif is_unset(field.default):
                default = "(derived)"
            else:
                default = shown(field.default)
            table.add(f"  {field.name}", describe(types[field.name]), default)
    return table
