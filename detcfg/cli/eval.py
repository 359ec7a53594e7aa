"""`detcfg eval`: the average precision of a trained detector."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detcfg.cli.arguments import Allow, Fast, HalfPrecision, Json, Overrides
from detcfg.cli.checkpoints import Partial
from detcfg.cli.output import progress, write_json
from detcfg.errors import printable

if TYPE_CHECKING:
    from detcfg.evaluation.truth import IoUType


class Split(StrEnum):
    """A dataset of the experiment. typer shows the values."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT|RUN",
            help="The folder of a run, one of its checkpoints, or an experiment along with --checkpoint.",
        ),
    ],
    overrides: Overrides = None,
    *,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="The weights. [default: the run's best]")
    ] = None,
    split: Annotated[
        Split, typer.Option(help="The dataset to evaluate on; val where there is no test.")
    ] = Split.TEST,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the detections there, in COCO's json.")
    ] = None,
    amp: HalfPrecision = "none",
    fast: Fast = False,
    as_json: Json = False,
    partial: Partial = False,
    allow: Allow = None,
) -> None:
    """Evaluate a trained detector: COCO's twelve metrics, and AP by class."""
    from detcfg.cli.checkpoints import load_detector
    from detcfg.cli.metrics import print_evaluation
    from detcfg.data.summary import report
    from detcfg.engine.validation import validate
    from detcfg.evaluation.coco import CocoEvaluator
    from detcfg.recipe.amp import autocast

    model, config = load_detector(checkpoint, source, overrides, allow, partial=partial)
    loader = config.data.eval_loader(split.value)
    for line in report(loader.source).lines(f"data.{split.value}"):
        typer.echo(printable(line), err=True)
    kinds: tuple[IoUType, ...] = ("bbox", "segm") if config.data.with_mask else ("bbox",)
    evaluator = CocoEvaluator(loader.source, kinds, max_dets=config.data.max_dets)
    with progress("evaluating", len(loader)) as advance, autocast(model, amp):
        losses = validate(model, loader, evaluator, after_batch=advance)
    evaluator.backend = "hotcoco" if fast else "numpy"
    if out is not None:
        write_json(out, evaluator.detections())
    print_evaluation(evaluator, kinds, losses, as_json=as_json)
