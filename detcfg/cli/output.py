"""Tables on the terminal, and whole lines where the output goes to a file."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

WIDE = 10_000
"""Columns of an output that is no terminal: nothing is wrapped, so that grep finds whole lines."""


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """A table with a line under its header; the columns named in `right` hold numbers."""
    rows = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        rows.add_column(column, justify=justify, overflow="fold")
    return rows


def console() -> Console:
    """Standard output."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=WIDE)


def print_table(rows: Table) -> None:
    """Print a table, without trailing blanks where the output is no terminal."""
    screen = console()
    if screen.is_terminal:
        screen.print(rows)
        return
    with screen.capture() as capture:
        screen.print(rows)
    for line in capture.get().splitlines():
        print(line.rstrip())  # noqa: T201
