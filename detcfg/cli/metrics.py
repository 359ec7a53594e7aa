"""The metrics of an evaluation, on the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import typer
from attrs import asdict

from detcfg.cli.output import Table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detcfg.evaluation.coco import CocoEvaluator
    from detcfg.evaluation.truth import IoUType

MEANINGS: Final = {
    "AP": "precision, mean over IoU 0.50 to 0.95",
    "AP50": "precision at IoU 0.50",
    "AP75": "precision at IoU 0.75",
    "APs": "precision, objects below 32x32 pixels",
    "APm": "precision, objects between",
    "APl": "precision, objects above 96x96 pixels",
    "APr": "precision, rare classes",
    "APc": "precision, common classes",
    "APf": "precision, frequent classes",
    "ARs": "recall with as many, objects below 32x32 pixels",
    "ARm": "recall with as many, objects between",
    "ARl": "recall with as many, objects above 96x96 pixels",
}
"""Of COCO's numbers and LVIS's, but for the recalls with so many detections."""


def print_evaluation(
    evaluator: CocoEvaluator,
    iou_types: Sequence[IoUType],
    losses: dict[str, float] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print COCO's twelve metrics and those of each class, as tables or as one JSON object."""
    metrics = evaluator.compute()
    if lost := str(evaluator.out_of_reach()):
        typer.echo(f"warning: {lost}", err=True)
    if as_json:
        typer.echo(json.dumps(to_data(evaluator, iou_types, losses), indent=2))
        return
    numbers = Table(columns=("metric", *iou_types, ""), right=tuple(iou_types))
    prefix = f"{iou_types[0]}_"
    for name in (key.removeprefix(prefix) for key in metrics if key.startswith(prefix)):
        meaning = MEANINGS.get(name) or _recall(evaluator, int(name.removeprefix("AR")))
        numbers.add(name, *(percent(metrics[f"{kind}_{name}"]) for kind in iou_types), meaning)
    print_table(numbers)
    for kind in iou_types:
        typer.echo("")
        columns = ("class", "objects", "AP", "AP50", f"AR{evaluator.max_dets[-1]}")
        classes = Table(columns=columns, right=columns[1:], title=f"{kind} by class" * (len(iou_types) > 1))
        for name, result in evaluator.per_class(kind).items():
            reached = (percent(value) for value in (result.AP, result.AP50, result.AR100))
            classes.add(name, f"{result.objects:,}", *reached)
        print_table(classes)


def _recall(evaluator: CocoEvaluator, limit: int) -> str:
    """What the recall with so many detections means; the first says what they are counted by."""
    if limit != evaluator.max_dets[0]:
        return f"recall with {limit}"
    counted = "an image and class" if evaluator.truth.lvis is None else "an image"
    return f"recall with {limit} detection{'s' * (limit > 1)} {counted}"


def to_data(
    evaluator: CocoEvaluator, iou_types: Sequence[IoUType], losses: dict[str, float] | None = None
) -> dict[str, Any]:
    """The same for JSON: `bbox_AP50` and the like, from 0 to 1, -1 where there is nothing to find."""
    classes = {
        kind: {name: asdict(result) for name, result in evaluator.per_class(kind).items()}
        for kind in iou_types
    }
    data: dict[str, Any] = {**evaluator.compute(), "classes": classes}
    return data if losses is None else {**data, "losses": losses}


def percent(value: float) -> str:
    """A figure from 0 to 1 in percent; a dash for -1, where there is nothing to find."""
    return "-" if value < 0 else f"{100 * value:.1f}"
