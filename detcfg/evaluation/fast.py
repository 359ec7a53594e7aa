"""COCO's average precision by hotcoco, a library in Rust: the same numbers in a small part of the time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from detcfg.errors import DetcfgError
from detcfg.evaluation.found import ImageDetections, Record
from detcfg.evaluation.matching import Curves
from detcfg.evaluation.pairs import State
from detcfg.evaluation.truth import GroundTruth


def fast_curves(truth: GroundTruth, found: State, max_dets: tuple[int, ...]) -> Curves | None:
    """The curves that `accumulate` gives, computed by hotcoco; None for what it cannot express.

    That is LVIS's rules, and ignored objects that are no crowds, such as VOC's difficult ones.

    Raises:
        DetcfgError: hotcoco is not installed.
    """
    hotcoco = _hotcoco()
    if truth.lvis is not None or (truth.ignored & ~truth.crowds).any():
        return None
    rows = np.repeat(np.arange(len(truth.image_ids)), np.diff(truth.offsets))
    segm = truth.segmentations is not None
    objects = hotcoco.COCO.from_arrays(
        images=[{"id": row, "height": h, "width": w} for row, (h, w) in enumerate(truth.sizes)],
        categories=[{"id": label, "name": str(label)} for label in range(len(truth.names))],
        image_ids=rows,
        category_ids=truth.labels,
        boxes=np.nan_to_num(truth.boxes),  # there may be none where masks are compared
        area=truth.areas,
        iscrowd=truth.crowds,
        segmentation=_rles(truth, rows) if segm else None,
    )
    row_of = {image_id: row for row, image_id in enumerate(truth.image_ids)}
    parts = [(row_of[image_id], part) for image_id, part in found.items() if len(part.labels)]
    given: Any = _masks(parts) if segm else _boxes(parts)
    evaluation = hotcoco.COCOeval(objects, objects.loadRes(given), "segm" if segm else "bbox")
    parameters = evaluation.params
    parameters.max_dets = list(max_dets)
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    return Curves(np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"]))


def _hotcoco() -> Any:
    try:
        return import_module("hotcoco")
    except ImportError:
        raise DetcfgError(
            "The fast evaluation needs hotcoco, which is not installed: pip install 'detcfg[fast]'. "
            "Or leave the backend at numpy, which gives the same numbers."
        ) from None


def _rles(truth: GroundTruth, rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[Record]:
    """The masks of the ground truth as RLE."""
    assert truth.segmentations is not None
    rles = [truth.segmentations.code(i, truth.sizes[int(row)]) for i, row in enumerate(rows)]
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]


def _boxes(parts: list[tuple[int, ImageDetections]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, 7): image, x, y, width, height, score, class."""
    columns = [
        np.column_stack((np.full(len(part.labels), row), part.boxes, part.scores, part.labels))
        for row, part in parts
    ]
    return np.concatenate([np.zeros((0, 7)), *columns])


def _masks(parts: list[tuple[int, ImageDetections]]) -> list[Record]:
    """Entries without boxes, so that a detection's area is its mask's."""
    return [
        {"image_id": row, "category_id": int(label), "score": float(score), "segmentation": _text(rle)}
        for row, part in parts
        for label, score, rle in zip(part.labels, part.scores, part.rles or [], strict=True)
    ]


def _text(rle: Record) -> Record:
    counts = rle["counts"]
    return {**rle, "counts": counts if isinstance(counts, str) else counts.decode("ascii")}
