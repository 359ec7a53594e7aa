"""The evaluation that is measured: from detections to COCO's twelve numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from attrs import frozen

from detcfg.evaluation.coco import Backend, CocoEvaluator
from detcfg.structures import Detections

CLASSES = 80
OBJECTS = 7
DETECTIONS = 100
SIDE = 640


@frozen(eq=False)
class EvaluationData:
    """Random ground truth in COCO's format, and detections of which some are near an object."""

    annotations: dict[str, Any]
    detections: list[Detections]
    """Of each image; its id is its index plus one."""

    @classmethod
    def of(cls, images: int) -> EvaluationData:
        chance = np.random.default_rng(0)
        boxes = _boxes(chance, images * OBJECTS).reshape(images, OBJECTS, 4)
        labels = chance.integers(0, CLASSES, (images, OBJECTS))
        entries = [
            {
                "id": number + 1,
                "image_id": number // OBJECTS + 1,
                "category_id": int(labels.flat[number]) + 1,
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "area": float((x2 - x1) * (y2 - y1)),
                "iscrowd": 0,
            }
            for number, (x1, y1, x2, y2) in enumerate(boxes.reshape(-1, 4))
        ]
        annotations = {
            "images": [
                {"id": i + 1, "height": SIDE, "width": SIDE, "file_name": f"{i}.jpg"} for i in range(images)
            ],
            "categories": [{"id": i + 1, "name": str(i)} for i in range(CLASSES)],
            "annotations": entries,
        }
        return cls(annotations, [_detections(chance, *of) for of in zip(boxes, labels, strict=True)])

    def ground_truth(self) -> dict[str, Any]:
        """The annotations in COCO's format."""
        return self.annotations


def _boxes(chance: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    corner = chance.random((count, 2)) * (SIDE - 40)
    return np.concatenate([corner, corner + 8 + chance.random((count, 2)) * (SIDE - 8 - corner)], 1)


def _detections(chance: np.random.Generator, boxes: Any, labels: Any) -> Detections:
    """Three detections near each object, and others anywhere."""
    near = np.repeat(boxes, 3, 0) + chance.normal(0, 6, (3 * OBJECTS, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    others = DETECTIONS - len(near)
    every = np.concatenate([near, _boxes(chance, others)])
    classes = np.concatenate([np.repeat(labels, 3), chance.integers(0, CLASSES, others)])
    return Detections(
        boxes=torch.as_tensor(every).float(),
        scores=torch.as_tensor(chance.random(DETECTIONS)).float(),
        labels=torch.as_tensor(classes),
    )


def detcfg_evaluation(data: EvaluationData, backend: Backend) -> Callable[[], dict[str, float]]:
    """detcfg's evaluation."""

    def run() -> dict[str, float]:
        evaluator = CocoEvaluator(data)
        evaluator.backend = backend
        for index, detections in enumerate(data.detections):
            evaluator.add(index + 1, detections)
        return evaluator.compute()

    return run


def pycocotools_evaluation(data: EvaluationData) -> Callable[[], list[float]]:
    """pycocotools', from the same detections."""
    coco: Any = import_module("pycocotools.coco")
    cocoeval: Any = import_module("pycocotools.cocoeval")

    def run() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO()
            truth.dataset = data.annotations
            truth.createIndex()
            evaluation = cocoeval.COCOeval(truth, truth.loadRes(_rows(data.detections)), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return [float(value) for value in evaluation.stats]

    return run


def _rows(detections: list[Detections]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, 7): image, x, y, width, height, score, category."""
    parts: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    for index, image in enumerate(detections):
        boxes = image.boxes.double().numpy()
        boxes = np.column_stack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]))
        number = np.full(len(boxes), index + 1)
        parts.append(
            np.column_stack((number, boxes, image.scores.double().numpy(), image.labels.numpy() + 1))
        )
    return np.concatenate(parts)
