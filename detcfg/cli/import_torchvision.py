"""`detcfg import-torchvision`: a checkpoint of torchvision's detectors as a run of detcfg."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_torchvision(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.", show_default=False)],
    *,
    out: Annotated[Path | None, typer.Option(help="The folder to write; else runs/NAME.")] = None,
    classes: Annotated[
        str, typer.Option(help="Names of the classes, with commas between; else COCO's.", show_default=False)
    ] = "",
    own: Annotated[
        bool,
        typer.Option("--own", help="Weights with COCO's labels that are not torchvision's published ones."),
    ] = False,
) -> None:
    """Convert weights of torchvision's RetinaNet, FCOS, Faster R-CNN or Mask R-CNN (ResNet-50-FPN).

    Which one it is shows in the weights. The folder then serves `eval`, `predict` and `load_from`.
    """
    from detcfg.interop.torchvision.command import import_torchvision as imported

    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    result = imported(checkpoint, out, names, own=own)
    typer.echo(f"{checkpoint} is a {result.name} of {len(result.experiment.data.classes)} classes.")
    typer.echo(f"Its {result.tensors} tensors and the experiment are in {result.folder}.")
