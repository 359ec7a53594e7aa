"""Spoilt annotations: COCO's and LVIS's json, VOC's XML, and COCO's detections."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any, Final

from attrs import evolve
from PIL import Image

from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.files import FileDataset, FileDatasetConfig
from detcfg.data.lvis import LVISV1DatasetConfig
from detcfg.data.voc import VOCDatasetConfig
from detcfg.errors import DetcfgError
from detcfg.evaluation.coco import CocoEvaluator
from tests.fuzz.mutate import TOKENS, spoilt_bytes, spoilt_text, spoilt_tree
from tests.support.coco_files import whole
from tests.support.voc_files import thing, xml

CLASSES: Final = ("dog", "cat")
XML: Final = (
    xml(thing("dog", (6, 6, 26, 16)), thing("cat", (31, 21, 40, 30), difficult=1)),
    xml(thing("dog", (1, 1, 9, 9)), thing("cow", (1, 1, 9, 9)), size=""),
    f'<?xml version="1.0" encoding="utf-8"?>\n{xml(thing("cat", (1.5, 2.5, 30, 20)))}',
)
"""Annotations of images with 40x30 pixels."""


def lvis() -> dict[str, Any]:
    """The small data, as LVIS has it."""
    data = whole()
    for image in data["images"]:
        name = image.pop("file_name")
        image |= {"coco_url": f"http://images.cocodataset.org/{name}"}
        image |= {"neg_category_ids": [9], "not_exhaustive_category_ids": [7]}
    for category, frequency in zip(data["categories"], "rcf", strict=True):
        category["frequency"] = frequency
    return data


def detections() -> list[dict[str, Any]]:
    """The small data's objects, found."""
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{"score": 0.5, **{key: entry[key] for key in keys}} for entry in whole()["annotations"]]


class Annotations:
    """Spoils one of the formats, and reads it as far as training and validation would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("a.png", "sub/b.png", "c.png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30)).save(folder / name)
        for name in ("Annotations", "Images"):
            (folder / name).mkdir()
        Image.new("RGB", (40, 30)).save(folder / "Images" / "x.jpg")
        self.file = folder / "all.json"
        values: dict[str, Any] = {"data_root": str(folder), "classes": CLASSES}
        self.coco = CocoDatasetConfig(**values, ann_file="all.json", img_prefix=".")
        self.lvis = LVISV1DatasetConfig(**values, ann_file="all.json", img_prefix=".")
        self.voc = VOCDatasetConfig(**values, ann_file="list.txt", img_subdir="Images")

    def __call__(self, draw: Random) -> None:
        match draw.randrange(5):
            case 0 | 1:
                self.file.write_bytes(_json(draw, whole()))
                self._use(draw, self.coco)
            case 2:
                self.file.write_bytes(_json(draw, lvis()))
                self._use(draw, self.lvis)
            case 3:
                self._write_voc(draw)
                self._use(draw, self.voc)
            case _:
                self.file.write_text(json.dumps(whole()))
                found = self.folder / "found.json"
                found.write_bytes(_json(draw, detections()))
                CocoEvaluator.from_files(self.file, found, draw.choice(("bbox", "segm"))).compute()

    def _write_voc(self, draw: Random) -> None:
        text = draw.choice(XML)
        content = spoilt_text(draw, text, (*XML, *TOKENS)).encode(errors="surrogatepass")
        if draw.random() < 0.3:
            content = spoilt_bytes(draw, text.encode())
        (self.folder / "Annotations" / "x.xml").write_bytes(content)
        listed = b"x\n" if draw.random() < 0.8 else spoilt_bytes(draw, b"x\nsub/b 1\nx -1\n")
        (self.folder / "list.txt").write_bytes(listed)

    def _use(self, draw: Random, config: FileDatasetConfig) -> None:
        config = evolve(config, drop_invalid=draw.random() < 0.7, min_size=draw.choice((0, 0, 8)))
        with_mask = not isinstance(config, VOCDatasetConfig) and draw.random() < 0.7
        dataset = config.dataset(with_mask=with_mask)
        assert isinstance(dataset, FileDataset)
        dataset.class_counts()
        for index in range(len(dataset)):
            try:
                dataset[index]
            except DetcfgError:
                continue
        [str(problem) for problem in dataset.problems]
        CocoEvaluator(dataset, ("bbox", "segm") if with_mask else ("bbox",)).compute()


def _json(draw: Random, data: Any) -> bytes:
    """The data as a file, spoilt before it was written or afterwards."""
    kind = draw.random()
    if kind < 0.7:
        return json.dumps(spoilt_tree(draw, data)).encode()
    text = json.dumps(data)
    if kind < 0.9:
        return spoilt_text(draw, text, TOKENS).encode(errors="surrogatepass")
    return spoilt_bytes(draw, text.encode())
