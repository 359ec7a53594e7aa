#!/usr/bin/env bash
# supervision 0.31.2: in its COCO files, an object whose mask has a hole or two parts is a crowd.
#
# Behaviour: DetectionDataset.as_coco writes a mask in one piece as a polygon with iscrowd 0, and a mask with a hole
#   or in two parts, such as an object behind a pole, as RLE with iscrowd 1. A crowd is no training example, and
#   COCO's evaluation neither asks for it nor counts what overlaps it as wrong, so these objects vanish.
# Likely guess: iscrowd stays 0, and the mask becomes several polygons or an RLE. COCO's own annotations have
#   objects of several polygons, and RLE goes with iscrowd 0 as well.
# Seen on 2026-11-30, Python 3.11, numpy 2.4.6:
#   supervision 0.31.2
#   one piece: list, iscrowd 0
#   two parts: dict, iscrowd 1
#   a hole: dict, iscrowd 1
# So in detcfg: CocoDatasetConfig takes iscrowd at its word (`Targets.ignored`); set it to 0 in files by supervision
#   whose objects are no crowds.
#
# Installs into a temporary folder; exit status 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "supervision==0.31.2" "numpy==2.4.6" "opencv-python-headless==5.0.0.93"

cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import supervision

one, two, hole = np.zeros((3, 100, 100), dtype=bool)
one[10:40, 10:40] = True
two[10:40, 10:40] = two[60:90, 60:90] = True
hole[10:60, 10:60] = True
hole[25:45, 25:45] = False
masks = {"one piece": one, "two parts": two, "a hole": hole}
boxes = np.array([[10, 10, 40, 40], [10, 10, 90, 90], [10, 10, 60, 60]], dtype=float)

cv2.imwrite("image.png", np.zeros((100, 100, 3), np.uint8))
objects = supervision.Detections(xyxy=boxes, mask=np.stack(list(masks.values())), class_id=np.zeros(3, dtype=int))
dataset = supervision.DetectionDataset(classes=["bolt"], images=["image.png"], annotations={"image.png": objects})
dataset.as_coco(annotations_path="coco.json")

print("supervision", version("supervision"))
written = json.loads(Path("coco.json").read_text())["annotations"]
found = {}
for name, annotation in zip(masks, written, strict=True):
    found[name] = (type(annotation["segmentation"]).__name__, annotation["iscrowd"])
    print(f"{name}: {found[name][0]}, iscrowd {found[name][1]}")
if found != {"one piece": ("list", 0), "two parts": ("dict", 1), "a hole": ("dict", 1)}:
    sys.exit("the behaviour has changed")
PYTHON
