#!/usr/bin/env bash
# pycocotools 2.0.11: an annotation whose id is 0 can never be found.
#
# Behaviour: two objects, two detections that are equal to them. With the ids 1 and 2 the AP is 1.0, with 0 and 1 it
#   is 0.25, and nothing is printed. COCOeval keeps, for each detection, the id of the object that it matched, in an
#   array that is 0 where it matched none. The match with id 0 is therefore read as a false positive.
# Likely guess: an id is only a name. Ids from 0 are unique, and COCO's format has no word against them, so the AP
#   cannot depend on them. Exporters that count rows from 0 write such files.
# Seen on 2026-11-30, Python 3.11, numpy 2.4.6:
#   pycocotools 2.0.11
#   ids from 1: AP 1.0000
#   ids from 0: AP 0.2525
# So in detcfg: detcfg.evaluation matches by row and gives 1.0 for both; comparing it with pycocotools on a file with
#   an id 0 shows a difference that is pycocotools'.
#
# Installs into a temporary folder; exit status 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pycocotools==2.0.11" "numpy==2.4.6"

"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BOXES = [[10.0, 10.0, 40.0, 40.0], [70.0, 70.0, 40.0, 40.0]]


def average_precision(first_id):
    """The AP of detections that are the annotated boxes themselves."""
    objects = [
        {"id": first_id + i, "image_id": 1, "category_id": 1, "bbox": box, "area": 1600.0, "iscrowd": 0}
        for i, box in enumerate(BOXES)
    ]
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9 - 0.1 * i} for i, box in enumerate(BOXES)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": 1, "width": 200, "height": 200}],
            "categories": [{"id": 1, "name": "bolt"}],
            "annotations": objects,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


print("pycocotools", version("pycocotools"))
found = {first: average_precision(first) for first in (1, 0)}
for first, value in found.items():
    print(f"ids from {first}: AP {value:.4f}")
if not (found[1] == 1.0 and abs(found[0] - 0.2525) < 1e-3):
    sys.exit("the behaviour has changed")
PYTHON
