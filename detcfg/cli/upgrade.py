"""`detcfg upgrade`: the imports of Python files, by the names that detcfg has today."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from detcfg.config.load import Upgrade


def upgrade(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Python files.", show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if there is something to rewrite.")
    ] = False,
) -> None:
    """Rewrite imports of what has moved in detcfg since a file was written, and nothing else.

    What would change is shown first. Saved runs need nothing: they are loaded as they are.
    """
    from detcfg.config.load import upgrade as upgraded

    found = [upgraded(file) for file in files]
    changed = [file for file in found if file.before != file.after]
    for file in found:
        _print_diff(file)
    if not changed:
        typer.echo("There is nothing to rewrite.")
        return
    count = f"{len(changed)} file{'s' * (len(changed) > 1)}"
    if check:
        typer.echo(f"{count} would be rewritten.")
        raise typer.Exit(1)
    if not yes:
        typer.confirm(f"Rewrite {count}?", abort=True)
    for file in changed:
        file.write()
    typer.echo(f"{count} rewritten.")


def _print_diff(file: Upgrade) -> None:
    """The lines that change, and what is left to the person."""
    from difflib import unified_diff

    from detcfg.errors import printable

    lines = unified_diff(
        file.before.splitlines(), file.after.splitlines(), str(file.path), str(file.path), lineterm=""
    )
    colours = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}
    for line in lines:
        typer.secho(printable(line), fg=colours.get(line[0]))
    for note in file.notes:
        typer.secho(printable(f"{file.path}:{note.line}: {note.message}"), fg=typer.colors.YELLOW)
