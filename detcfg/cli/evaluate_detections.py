"""`detcfg evaluate-detections`: average precision of any detections in COCO's format, without a model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from detcfg.cli.arguments import Fast, Json


class Kind(StrEnum):
    """What is compared. typer shows the values."""

    BBOX = "bbox"
    SEGM = "segm"


def evaluate_detections(
    gt: Annotated[str, typer.Argument(metavar="GT.json", help="Annotations in COCO's format.")],
    dt: Annotated[
        str,
        typer.Argument(metavar="DT.json", help="Detections: a list of image_id, category_id, score, bbox."),
    ],
    *,
    kind: Annotated[Kind, typer.Option("--type", help="Compare boxes or masks.")] = Kind.BBOX,
    max_dets: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="How many detections of an image and class count; may be repeated. [default: 1, 10 and 100]",
        ),
    ] = None,
    fast: Fast = False,
    as_json: Json = False,
) -> None:
    """Evaluate a file of detections against a file of annotations: COCO's twelve metrics, and AP by class."""
    from detcfg.cli.metrics import print_evaluation
    from detcfg.evaluation.coco import MAX_DETS, CocoEvaluator

    limits = tuple(max_dets) if max_dets else MAX_DETS
    evaluator = CocoEvaluator.from_files(gt, dt, kind.value, max_dets=limits)
    evaluator.backend = "hotcoco" if fast else "numpy"
    if evaluator.left_out:
        typer.echo(
            f"{dt}: {evaluator.left_out:,} detections are left out: their category_id is none of {gt}.",
            err=True,
        )
    masks = evaluator.truth.segmentations
    if masks is not None and (absent := int(masks.are_absent().sum())):
        typer.echo(f"{gt}: {absent:,} annotations have no mask, and so cannot be found.", err=True)
    print_evaluation(evaluator, (kind.value,), as_json=as_json)
