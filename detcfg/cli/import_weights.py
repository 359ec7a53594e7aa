"""`detcfg import-weights`: published weights of real-time transformers as a run of detcfg."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file.", show_default=False)],
    *,
    out: Annotated[Path | None, typer.Option(help="The folder to write; else runs/NAME.")] = None,
    classes: Annotated[
        str,
        typer.Option(help="Names of your classes, with commas between; else COCO's.", show_default=False),
    ] = "",
    experiment: Annotated[
        str, typer.Option(help="Whose weights they are; else it shows in them.", show_default=False)
    ] = "",
) -> None:
    """Convert published weights of D-FINE, DEIM or RT-DETRv2.

    Which one it is shows in the weights. The folder then serves `eval`, `predict` and `load_from`. With other classes than the
    file has, the layers that predict them are new, to be trained.
    """
    from detcfg.interop.realtime import import_weights as imported

    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    result = imported(checkpoint, out, names, name=experiment)
    typer.echo(f"{checkpoint} is a {result.name}; {result.tensors} tensors were taken.")
    for note in result.notes:
        typer.echo(note)
    typer.echo(f"They and the experiment are in {result.folder}.")
