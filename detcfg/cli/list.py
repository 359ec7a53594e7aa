"""`detcfg list`: the components that there are, a user's own included."""

from __future__ import annotations

from typing import Annotated

import typer


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
        table = Table(columns=(name, "what it is", "where it is"))
        for component in group:
            table.add(component.cls.__name__, component.summary, component.path)
        print_table(table)
        typer.echo()
