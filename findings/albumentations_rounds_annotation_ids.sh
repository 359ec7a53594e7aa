#!/usr/bin/env bash
# albumentations 2.0.8: label fields pass through float32, which rounds COCO's annotation ids.
#
# Behaviour: A.Compose with BboxParams(label_fields=["ids"]) returns whole numbers above 2^24 = 16,777,216 rounded to
#   float32. A list comes back as floats; an integer array comes back as integers, already rounded, so that
#   nothing shows. Two ids may become one. COCO's crowds have ids such as 900100581904.
# Likely guess: a label field is carried along untouched, and only sorted out with the boxes that go,
#   so that an id leads back to its annotation (its mask, its attributes) after the transform.
# Seen on 2026-11-30, Python 3.11, numpy 2.4.6, a flip that keeps every box:
#   albumentations 2.0.8
#   list: [16777216, 16777217, 900100581904] -> [16777216.0, 16777216.0, 900100587520.0]
#   int64: [16777216, 16777217, 900100581904] -> [16777216, 16777216, 900100587520], int64
# So in detcfg: what calls albumentations hands over the row of each object, 0 to N - 1, as the only label field,
#   and looks everything else up by it.
#
# Installs into a temporary folder; exit status 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "albumentations==2.0.8" "numpy==2.4.6"

NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import albumentations as A
import numpy as np

IDS = [2**24, 2**24 + 1, 900100581904]
BOXES = [[10, 10, 20, 20], [40, 40, 20, 20], [70, 70, 20, 20]]


def flipped(ids):
    """The ids of boxes after a horizontal flip, which keeps them all."""
    transform = A.Compose(
        [A.HorizontalFlip(p=1.0)], bbox_params=A.BboxParams(format="coco", label_fields=["ids"])
    )
    return transform(image=np.zeros((100, 100, 3), np.uint8), bboxes=BOXES, ids=ids)["ids"]


print("albumentations", version("albumentations"))
listed, array = flipped(list(IDS)), flipped(np.array(IDS))
print("list:", IDS, "->", [float(i) for i in listed])
print("int64:", IDS, "->", f"{[int(i) for i in array]}, {array.dtype}")
rounded = [float(np.float32(i)) for i in IDS]
if [float(i) for i in listed] != rounded or array.dtype != np.int64 or array.tolist() != rounded:
    sys.exit("the behaviour has changed")
PYTHON
