"""Small data in COCO's format, whole or spoilt on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from attrs import evolve
from PIL import Image

from detcfg.data.coco import CocoDatasetConfig

Data: TypeAlias = dict[str, Any]
Spoil: TypeAlias = Callable[[Data], object]


def whole() -> Data:
    """Three images of 40x30 with five objects of the categories 7 and 11; 9 has none."""

    def thing(number: int, image: int, category: int, box: list[float], **more: Any) -> Data:
        x, y, w, h = box
        return {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": w * h,
            "iscrowd": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            **more,
        }

    return {
        "images": [
            {"id": 10, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 20, "file_name": "sub/b.png", "width": 40, "height": 30},
            {"id": 30, "file_name": "c.png", "width": 40, "height": 30},
        ],
        "annotations": [
            thing(1, 10, 11, [5, 5, 20, 10]),
            thing(2, 20, 7, [0, 0, 40, 30]),
            thing(3, 10, 7, [30, 20, 10, 10]),
            thing(
                4,
                20,
                11,
                [2, 2, 10, 10],
                iscrowd=1,
                segmentation={"size": [30, 40], "counts": [62, 10, 1128]},
            ),
            thing(5, 20, 7, [1, 1, 5, 5], ignore=1),
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "cow"}, {"id": 11, "name": "dog"}],
    }


def write(folder: Path, spoil: Spoil = Data.copy, **values: Any) -> CocoDatasetConfig:
    """The data in a folder, with a config; `spoil` changes it before."""
    data = whole()
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for image in data["images"]:
        Image.new("RGB", (40, 30), (image["id"], 0, 0)).save(folder / image["file_name"])
    spoil(data)
    (folder / "all.json").write_text(json.dumps(data))
    config = CocoDatasetConfig(
        data_root=str(folder), ann_file="all.json", img_prefix=".", classes=("dog", "cat")
    )
    return evolve(config, **values)


def write_crowded(folder: Path) -> tuple[Path, Path]:
    """Annotations of an image with 300 cats and one with 3, and detections of all exactly."""
    boxes = [[32 * (i % 20), 34 * (i // 20), 30, 32] for i in range(300)]
    found = [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes]
    found += [{"image_id": 2, "category_id": 1, "bbox": box} for box in boxes[:3]]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 640, "height": 512} for i in (1, 2)],
        "annotations": [{**f, "id": i, "area": 960, "iscrowd": 0} for i, f in enumerate(found, start=1)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    gt, dt = folder / "gt.json", folder / "dt.json"
    gt.write_text(json.dumps(truth))
    dt.write_text(json.dumps([{**f, "score": 0.9} for f in found]))
    return gt, dt
