"""Real images: what their makers say of them is what is read."""

from __future__ import annotations

import json

import pytest
import torch
from pycocotools.coco import COCO

from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.files import FileDataset
from detcfg.data.voc import VOCDatasetConfig
from tests.support.paths import DATASETS

BCCD = DATASETS / "bccd" / "BCCD"
COCO_MINI = DATASETS / "coco_mini"
NUCLEI = DATASETS / "nuclei_dsb2018"


def needs(path: object) -> pytest.MarkDecorator:
    from pathlib import Path

    return pytest.mark.skipif(not Path(str(path)).is_dir(), reason=f"there is no {path}")


def check_sample(dataset: FileDataset, index: int) -> None:
    sample = dataset[index]
    assert sample.image.dtype == torch.uint8
    assert tuple(sample.image.shape) == (3, *sample.info.size)
    boxes = sample.targets.boxes
    height, width = sample.info.size
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 0] < width).all()
    assert (boxes[:, 1] < height).all()


@needs(BCCD)
def test_bccd_has_its_splits_its_objects_and_two_reports() -> None:
    counts: dict[str, int] = {}
    reports: list[str] = []
    sizes: list[int] = []
    for split in ("train", "val", "test"):
        config = VOCDatasetConfig(
            data_root=str(BCCD),
            ann_file=f"ImageSets/Main/{split}.txt",
            classes=("RBC", "WBC", "Platelets"),
        )
        dataset = config.dataset()
        sizes.append(len(dataset))
        reports += [str(problem) for problem in dataset.problems]
        for name, count in zip(dataset.classes, dataset.class_counts(), strict=True):
            counts[name] = counts.get(name, 0) + count
        for index in range(0, len(dataset), 20):
            check_sample(dataset, index)
    assert sizes == [205, 87, 72]
    assert counts == {"RBC": 4155 - 2, "WBC": 372, "Platelets": 361}
    assert [report.partition("image ")[2][:16] for report in reports] == [
        "BloodImage_00343",
        "BloodImage_00338",
    ]
    assert all("has no width or no height" in report for report in reports)


@needs(COCO_MINI)
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_coco_has_the_boxes_and_the_masks_that_pycocotools_sees(split: str) -> None:
    path = COCO_MINI / "annotations" / f"instances_{split}.json"
    dataset = CocoDatasetConfig(
        data_root=str(COCO_MINI), ann_file=f"annotations/{path.name}", img_prefix=split
    ).dataset(with_mask=True)
    reference = COCO()
    reference.dataset = json.loads(path.read_text())
    reference.createIndex()
    dropped = {int(problem.where.split()[1]) for problem in dataset.problems}
    assert len(dataset) == len(reference.imgs)
    assert len(dropped) <= 3
    for index in range(0, len(dataset), 7):
        check_sample(dataset, index)
        sample = dataset[index]
        objects = [a for a in reference.imgToAnns[sample.info.image_id] if a["id"] not in dropped]
        names = [dataset.classes[label] for label in sample.targets.labels.tolist()]
        assert names == [reference.cats[a["category_id"]]["name"] for a in objects]
        crowds = [bool(a["iscrowd"]) for a in objects]
        ignored = sample.targets.ignored
        assert (ignored.tolist() if ignored is not None else [False] * len(objects)) == crowds
        masks = sample.targets.masks
        assert masks is not None
        for mask, entry in zip(masks, objects, strict=True):
            assert torch.equal(mask, torch.as_tensor(reference.annToMask(entry)).bool())


@needs(NUCLEI)
def test_nuclei_have_the_same_masks_by_code_and_by_the_image_of_their_area() -> None:
    path = NUCLEI / "annotations" / "instances_val.json"
    dataset = CocoDatasetConfig(
        data_root=str(NUCLEI),
        ann_file=f"annotations/{path.name}",
        img_prefix="val",
        classes=("nucleus",),
    ).dataset(with_mask=True)
    areas: dict[int, list[float]] = {}
    for entry in json.loads(path.read_text())["annotations"]:
        areas.setdefault(entry["image_id"], []).append(entry["area"])
    assert (len(dataset), sum(dataset.class_counts())) == (46, 1424)
    for index in range(0, len(dataset), 5):
        sample = dataset[index]
        masks = sample.targets.masks
        assert masks is not None
        assert masks.sum(dim=(1, 2)).tolist() == areas[int(sample.info.image_id)]
        rows, columns = masks.any(dim=2).int().argmax(dim=1), masks.any(dim=1).int().argmax(dim=1)
        assert torch.equal(torch.stack((columns, rows), dim=1).float(), sample.targets.boxes[:, :2])
