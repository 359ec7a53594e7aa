"""`detcfg predict`: the detections of a trained detector in images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detcfg.cli.arguments import Allow, HalfPrecision
from detcfg.cli.checkpoints import Partial
from detcfg.cli.output import OutputError, progress, write_json

if TYPE_CHECKING:
    from PIL.Image import Image


def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ],
    *,
    checkpoint: Annotated[str, typer.Option(metavar="FILE", help="The weights, or the folder of a run.")],
    experiment: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="[default: what is saved beside the checkpoint]")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Change a value of the experiment. May be repeated."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where pictures and JSON go.")] = Path(
        "predictions"
    ),
    score_thr: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out detections with a lower score.")
    ] = 0.3,
    amp: HalfPrecision = "none",
    partial: Partial = False,
    allow: Allow = None,
) -> None:
    """Detect objects in images: a picture of each with boxes, masks and labels, and all detections as JSON.

    detections.json has an entry for each image; boxes are [x, y, width, height] in pixels, masks are RLE,
    both as in COCO. Exit code 1 if an image cannot be read; the others are done all the same.
    """
    from detcfg.cli.checkpoints import load_detector
    from detcfg.data.errors import DataError
    from detcfg.engine.predict import Predictor
    from detcfg.recipe.amp import autocast
    from detcfg.visualise import draw_detections

    files = _files(images)
    model, config = load_detector(checkpoint, experiment, override, allow, partial=partial)
    predictor = Predictor(model, config.data)
    entries: list[dict[str, Any]] = []
    names: set[str] = set()
    with progress("predicting", len(files)) as advance, autocast(model, amp):
        for file in files:
            advance()
            try:
                image, found = predictor(file)
            except DataError as error:
                typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
                continue
            found = found[found.scores >= score_thr]
            picture = out / _free_name(file, names)
            _save(draw_detections(image, found, predictor.classes, score_thr=score_thr), picture)
            entries.append({"image": str(file), "picture": str(picture), **predictor.to_data(image, found)})
    write_json(out / "detections.json", entries)
    count = sum(len(entry["detections"]) for entry in entries)
    typer.echo(f"{count:,} detections in {len(entries):,} images: {out}")
    if len(entries) < len(files):
        raise typer.Exit(1)


def _files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and the images in folders by name."""
    from detcfg.data.errors import DataError
    from detcfg.data.images import SUFFIXES

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"{path}: there are no images ({', '.join(SUFFIXES)}) in the folder.")
            files += inside
        else:
            files.append(path)
    return files


def _free_name(file: Path, taken: set[str]) -> str:
    """A name for the picture of a file; files of different folders may have the same."""
    suffix = file.suffix if file.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
    name, number = f"{file.stem}{suffix}", 2
    while name in taken:
        name, number = f"{file.stem}_{number}{suffix}", number + 1
    taken.add(name)
    return name


def _save(picture: Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=95)
    except OSError as error:
        raise OutputError.of(path, error) from error
