"""Tables on the terminal, and whole lines where the output goes to a file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from detcfg.errors import DetcfgError, printable

_GAP: Final = "   "


class OutputError(DetcfgError):
    """A result cannot be written."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> OutputError:
        """What the system said of a file."""
        return cls(
            f"{path} cannot be written: {error.strerror or error}. Make room, or choose another place."
        )


@frozen(kw_only=True)
class Table:
    """Rows of text under a header."""

    columns: tuple[str, ...]
    right: tuple[str, ...] = ()
    """The columns that hold numbers."""
    title: str = ""
    rows: list[tuple[str, ...]] = field(factory=list[tuple[str, ...]])
    styles: list[str] = field(factory=list[str])
    """Of each row, as rich names styles: "dim", "yellow", or nothing."""

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row, a cell a column."""
        self.rows.append(tuple(map(printable, cells)))
        self.styles.append(style)

    def text(self) -> str:
        """The table without colours, each row a line however long, so that grep finds it."""
        lines = [self.columns, *self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        shown = [self._line(cells, widths) for cells in lines]
        shown.insert(1, "-" * max(len(line) for line in shown))
        return "\n".join([self.title, *shown] if self.title else shown)

    def _line(self, cells: tuple[str, ...], widths: list[int]) -> str:
        padded = [
            cell.rjust(width) if column in self.right else cell.ljust(width)
            for column, cell, width in zip(self.columns, cells, widths, strict=True)
        ]
        return _GAP.join(padded).rstrip()


def print_table(table: Table) -> None:
    """Print a table: with colours, and long cells folded, where somebody looks at it."""
    if sys.stdout.isatty():
        _print_rich(table)
    else:
        print(table.text())  # noqa: T201


def _print_rich(table: Table) -> None:
    """rich takes a tenth of a second to import, which only a terminal repays."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        options: dict[str, Any] = {"justify": "right"} if column in table.right else {}
        shown.add_column(column, overflow="fold", **options)
    for cells, style in zip(table.rows, table.styles, strict=True):
        shown.add_row(*map(Text, cells), style=style)
    Console(highlight=False).print(shown)


@contextmanager
def progress(what: str, total: int) -> Generator[Callable[[], None]]:
    """A bar on stderr, while somebody looks at it; what is given moves it on by one."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def write_json(path: Path, data: object) -> None:
    """Write a JSON file.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, json.dumps(data))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table with its columns as the first row.

    Raises:
        OutputError: It cannot be written.
    """
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError.of(path, error) from error
