"""`detcfg predict`: the detections of a trained detector in images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from detcfg.cli.arguments import Allow, HalfPrecision
from detcfg.cli.checkpoints import Partial
from detcfg.cli.output import OutputError, progress, write_csv, write_json, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from detcfg.evaluation.truth import ImageId

SCORE_THR: Final = 0.3
TABLE: Final = "images.json"
"""Beside the detections: the images and the categories of their ids."""


class Format(StrEnum):
    """How detections are written. typer shows the values."""

    COCO = "coco"
    DETAILED = "detailed"
    CSV = "csv"
    YOLO = "yolo"


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
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="GT.json",
            help="Annotations in COCO's format, whose ids of images (by file name) and categories are written.",
        ),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="coco: a list of results; detailed: a list of images with theirs; csv: a row each; "
            "yolo: a text file an image.",
        ),
    ] = Format.COCO,
    score_thr: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Leave out what is less sure. [default: 0.3; with --annotations for the pictures alone]",
        ),
    ] = None,
    amp: HalfPrecision = "none",
    partial: Partial = False,
    allow: Allow = None,
) -> None:
    """Detect objects in images: a picture of each with boxes, masks and labels, and all detections as JSON.

    detections.json holds COCO's results, as evaluate-detections takes them: image_id, category_id, bbox
    ([x, y, width, height] in pixels), score, and segmentation (RLE) where there are masks. Without --annotations,
    images and categories count from 1, and images.json says which they are. csv writes detections.csv with
    corners in pixels; yolo writes labels/NAME.txt beside a data.yaml with the names (class, centre and size as fractions
    of the image, score), boxes alone. Exit code 1 if an image cannot be
    read; the others are done all the same.
    """
    from detcfg.cli.checkpoints import load_detector
    from detcfg.data.errors import DataError
    from detcfg.engine.exports import csv_rows, yolo_text
    from detcfg.engine.predict import Predictor
    from detcfg.evaluation.ids import Ids
    from detcfg.recipe.amp import autocast
    from detcfg.visualise import draw_detections

    files = _files(images)
    known = None if annotations is None else Ids.read(annotations)
    ids: list[ImageId] = list(range(1, len(files) + 1)) if known is None else known.of_files(files)
    model, config = load_detector(checkpoint, experiment, override, allow, partial=partial)
    predictor = Predictor(model, config.data)
    classes = predictor.classes
    categories = list(range(1, len(classes) + 1)) if known is None else known.of_classes(classes)
    shown = SCORE_THR if score_thr is None else score_thr
    written = shown if score_thr is not None or known is None else 0.0
    entries: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    names: set[str] = set()
    count = 0
    with progress("predicting", len(files)) as advance, autocast(model, amp):
        for image_id, file in zip(ids, files, strict=True):
            advance()
            try:
                image, found = predictor(file)
            except DataError as error:
                typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
                continue
            found = found[found.scores >= written]
            sure = found[found.scores >= shown]
            picture = out / _free_name(file, names)
            _save(draw_detections(image, sure, classes, score_thr=shown), picture)
            count += len(sure)
            sides = {"height": image.shape[-2], "width": image.shape[-1]}
            table.append({"id": image_id, "file_name": str(file), **sides, "picture": str(picture)})
            if form is Format.COCO:
                entries += predictor.results(found, image_id, categories)
            elif form is Format.CSV:
                entries += csv_rows(found, str(file), image_id, classes)
            elif form is Format.YOLO:
                write_text(
                    out / "labels" / f"{picture.stem}.txt",
                    yolo_text(found, (image.shape[-2], image.shape[-1])),
                )
            else:
                data = predictor.to_data(image, found)
                entries.append({"image": str(file), "picture": str(picture), **data})
    _write(form, out, entries, classes)
    if form is Format.COCO and known is None:
        write_json(out / TABLE, {"images": table, "categories": _named(categories, classes)})
    typer.echo(f"{count:,} objects in {len(table):,} images: {out}")
    if len(table) < len(files):
        raise typer.Exit(1)


def _write(form: Format, out: Path, entries: list[dict[str, Any]], classes: Sequence[str]) -> None:
    """What holds the detections of all images; of YOLO's files, the names of the classes."""
    from detcfg.engine.exports import CSV_COLUMNS

    if form is Format.CSV:
        write_csv(out / "detections.csv", CSV_COLUMNS, entries)
    elif form is Format.YOLO:
        names = "".join(f"  {label}: {json.dumps(name)}\n" for label, name in enumerate(classes))
        write_text(out / "data.yaml", f"names:\n{names}")
    else:
        write_json(out / "detections.json", entries)


def _named(categories: Sequence[ImageId], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The categories as COCO has them."""
    return [{"id": number, "name": name} for number, name in zip(categories, classes, strict=True)]


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
    stem, number = file.stem, 2
    while stem in taken:  # by stems, which is what YOLO's labels are found by
        stem, number = f"{file.stem}_{number}", number + 1
    taken.add(stem)
    return f"{stem}{suffix}"


def _save(picture: Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=95)
    except OSError as error:
        raise OutputError.of(path, error) from error
