"""What pycocotools counts, and detections to count: those that it ships, and worlds at random."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.paths import DATASETS

FAKE = DATASETS / "eval_fixtures" / "cocoapi_fake100"
TRUTH = FAKE / "instances_val2014_100.json"
needs_fake = pytest.mark.skipif(not FAKE.is_dir(), reason=f"there is no {FAKE}")


def reference(truth: dict[str, Any] | Path, found: list[dict[str, Any]] | Path, kind: str) -> list[float]:
    """pycocotools' twelve numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = json.loads(truth.read_text()) if isinstance(truth, Path) else truth
    found = json.loads(found.read_text()) if isinstance(found, Path) else found
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(number) for number in evaluation.stats]


def random_world(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations with crowds, all sizes and holes in the ids; detections near them, with equal scores."""
    draw = np.random.RandomState(seed)
    images = [{"id": 7 * i + 3, "height": 300, "width": 400, "file_name": f"{i}.jpg"} for i in range(8)]
    categories = [{"id": number, "name": f"c{number}"} for number in (2, 5, 90)]
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in images:
        for _ in range(draw.randint(0, 12)):
            x, y = draw.uniform(0, 250, 2)
            w, h = draw.choice([12, 50, 120]) * draw.uniform(0.5, 1.2, 2)
            category = int(draw.choice([2, 5]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h * 0.7,
                    "iscrowd": int(draw.rand() < 0.15),
                }
            )
            for _ in range(draw.randint(0, 4)):
                box = np.array([x, y, w, h]) + draw.normal(0, 5, 4)
                box[2:] = np.maximum(box[2:], 1)
                found.append(
                    {
                        "image_id": image["id"],
                        "category_id": category if draw.rand() < 0.9 else 90,
                        "bbox": box.tolist(),
                        "score": round(float(draw.rand()), 1),
                    }
                )
    annotations.append({**annotations[0], "id": len(annotations) + 1})  # two objects in one place
    return {"images": images, "annotations": annotations, "categories": categories}, found
