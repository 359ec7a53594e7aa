"""Pipelines and datasets of MMDetection's recipes: each step comes along, or is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from detcfg.config.load import load
from detcfg.data.classes import COCO_CLASSES, VOC_CLASSES
from detcfg.data.concat import ConcatDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.data.lvis import LVISV1DatasetConfig
from detcfg.data.transforms import (
    ComposeConfig,
    ExpandConfig,
    FilterAnnotationsConfig,
    RandomChoiceConfig,
    RandomChoiceResizeConfig,
    RandomCropConfig,
    RandomFlipConfig,
    RandomResizeConfig,
    ResizeConfig,
)
from detcfg.data.voc import VOCDatasetConfig
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.experiment import NOT_KNOWN, Imported, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from detcfg.interop.mmdet.write import write_experiment
from tests.support.small_configs import TWO_STAGE

LOADERS = """
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
train_dataloader = dict(batch_size=2, dataset=TRAIN)
val_dataloader = dict(batch_size=1, dataset=VAL)
"""
COCO = "dict(type='CocoDataset', data_root='data/coco/', ann_file='a.json', pipeline=load + STEPS)"


def imported(tmp_path: Path, train: str, val: str | None = None, *, classes: int = 80) -> Imported:
    """A config whose training data is `train`."""
    path = tmp_path / "x.py"
    loaders = LOADERS.replace("TRAIN", train).replace("VAL", val or COCO.replace("STEPS", "[]"))
    path.write_text(TWO_STAGE.replace("num_classes=3", f"num_classes={classes}") + loaders)
    return import_config(read_config(path))


def data_of(found: Imported) -> DataConfig:
    assert found.data is not None
    assert not [entry.path for entry in found.record.entries if entry.note == NOT_KNOWN]
    return found.data


def transforms(tmp_path: Path, steps: str) -> DataConfig:
    found = imported(tmp_path, COCO.replace("STEPS", steps))
    assert not notes(found)
    return data_of(found)


def notes(found: Imported) -> list[str]:
    return [f"{entry.path}: {entry.note}" for entry in found.record.of(Status.UNSUPPORTED)]


def test_detrs_choice_of_resize_or_crop(tmp_path: Path) -> None:
    resize = "dict(type='RandomChoiceResize', scales=[(480, 1333), (512, 1333)], keep_ratio=True)"
    crop = (
        "dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True)"
    )
    small = "dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200)], keep_ratio=True)"
    steps = f"[dict(type='RandomChoice', transforms=[[{resize}], [{small}, {crop}, {resize}]])]"

    resized = RandomChoiceResizeConfig(scales=((480, 1333), (512, 1333)))
    assert transforms(tmp_path, steps).train_transforms == (
        RandomChoiceConfig(
            transforms=(
                resized,
                ComposeConfig(
                    transforms=(
                        RandomChoiceResizeConfig(scales=((400, 4200), (500, 4200))),
                        RandomCropConfig(
                            crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True
                        ),
                        resized,
                    )
                ),
            )
        ),
    )


def test_large_scale_jitter(tmp_path: Path) -> None:
    steps = (
        "[dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True), "
        "dict(type='RandomCrop', crop_type='absolute_range', crop_size=(1024, 1024), recompute_bbox=True, "
        "allow_negative_crop=True), dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2))]"
    )
    assert transforms(tmp_path, steps).train_transforms == (
        RandomResizeConfig(scale=((1024, 1024),), ratio_range=(0.1, 2.0)),
        RandomCropConfig(
            crop_type="absolute_range", crop_size=(1024, 1024), recompute_bbox=True, allow_negative_crop=True
        ),
        FilterAnnotationsConfig(min_gt_bbox_wh=(0.01, 0.01)),
    )


def test_the_shortest_edge_is_a_scale_of_two_edges(tmp_path: Path) -> None:
    steps = (
        "[dict(type='RandomChoiceResize', scales=[480, 512], resize_type='ResizeShortestEdge', max_size=1333, "
        "keep_ratio=True), dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True), dict(type='RandomFlip')]"
    )
    assert transforms(tmp_path, steps).train_transforms[:2] == (
        RandomChoiceResizeConfig(scales=((1333, 480), (1333, 512))),
        ResizeConfig(scale=(800, 1333)),
    )


@pytest.mark.parametrize(
    ("keys", "mean"),
    [
        ("mean=[1, 2, 3], to_rgb=True", (1.0, 2.0, 3.0)),
        ("mean=[1, 2, 3], to_rgb=False", (3.0, 2.0, 1.0)),
        ("ratio_range=(1, 4)", (0.0, 0.0, 0.0)),
    ],
)
def test_the_colour_around_a_smaller_image_is_rgb(tmp_path: Path, keys: str, mean: tuple[float, ...]) -> None:
    (expand,) = transforms(tmp_path, f"[dict(type='Expand', {keys})]").train_transforms
    assert expand == ExpandConfig(mean=(mean[0], mean[1], mean[2]))


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("dict(type='Mosaic', img_scale=(640, 640))", "Mosaic: detcfg's transforms see one image at a time"),
        ("dict(type='Pad', size=(640, 640))", "not to 640x640"),
        ("dict(type='Pad', pad_to_square=True)", "not to a square"),
        ("dict(type='FilterAnnotations', keep_empty=True)", "no field 'keep_empty'"),
        ("dict(type='Odd', by=3)", "detcfg has no Odd"),
        ("dict(type='RandomChoice', transforms=[[dict(type='Odd', by=3)]])", "detcfg has no Odd"),
        (
            "dict(type='RandomChoice', transforms=[[dict(type='RandomFlip', prob=0.5, odd=3)]])",
            "no field 'odd'",
        ),
    ],
)
def test_a_step_without_counterpart_is_named(tmp_path: Path, step: str, says: str) -> None:
    found = imported(tmp_path, COCO.replace("STEPS", f"[{step}, dict(type='RandomFlip', prob=0.5)]"))
    assert any(says in note for note in notes(found))
    assert RandomFlipConfig() in data_of(found).train_transforms
    assert says in " ".join(write_experiment(found, {}).replace("#", "").split())


VOC = (
    "dict(type='VOCDataset', data_root='data/VOCdevkit/', ann_file='VOC{0}/ImageSets/Main/trainval.txt', "
    "data_prefix=dict(sub_data_root='VOC{0}/'), pipeline=load)"
)


def test_both_years_of_voc_are_joined_and_their_repetition_is_epochs(tmp_path: Path) -> None:
    both = f"dict(type='ConcatDataset', datasets=[{VOC.format(2007)}, {VOC.format(2012)}], ignore_keys=['x'])"
    found = imported(
        tmp_path, f"dict(type='RepeatDataset', times=3, dataset={both})", VOC.format(2007), classes=20
    )
    years = tuple(
        VOCDatasetConfig(data_root=f"data/VOCdevkit/VOC{year}", ann_file="ImageSets/Main/trainval.txt")
        for year in (2007, 2012)
    )
    assert data_of(found).train == ConcatDatasetConfig(classes=VOC_CLASSES, datasets=years)
    assert not notes(found)
    written = tmp_path / "written.py"
    written.write_text(write_experiment(found, {}))
    assert load(written, ExperimentConfig).data == data_of(found)


def test_several_annotation_files_of_2_x_are_joined_too(tmp_path: Path) -> None:
    years = "['VOC2007/ImageSets/Main/trainval.txt', 'VOC2012/ImageSets/Main/trainval.txt']"
    path = tmp_path / "old.py"
    path.write_text(
        TWO_STAGE.replace("num_classes=3", "num_classes=20")
        + f"""
data = dict(samples_per_gpu=2, workers_per_gpu=2,
    train=dict(type='RepeatDataset', times=3, dataset=dict(
        type='VOCDataset', ann_file={years}, img_prefix=['VOC2007/', 'VOC2012/'], pipeline=[])),
    val=dict(type='VOCDataset', ann_file='VOC2007/ImageSets/Main/test.txt', img_prefix='VOC2007/', pipeline=[]))
evaluation = dict(interval=1, metric='mAP')
"""
    )
    found = import_config(read_config(path))
    assert notes(found) == ["val_evaluator: VOCMetric: detcfg evaluates as COCO does"]
    data = data_of(found)
    parts = tuple(
        VOCDatasetConfig(data_root=f"VOC{year}", ann_file="ImageSets/Main/trainval.txt")
        for year in (2007, 2012)
    )
    assert data.train == ConcatDatasetConfig(classes=VOC_CLASSES, datasets=parts)


def test_joined_datasets_of_own_classes_have_them_all_over(tmp_path: Path) -> None:
    own = COCO.replace("STEPS", "[]").replace("ann_file", "metainfo=dict(classes=('bolt', 'nut')), ann_file")
    two = f"dict(type='ConcatDataset', datasets=[{own}, {own.replace('a.json', 'b.json')}])"
    data = data_of(imported(tmp_path, two, two, classes=2))
    assert isinstance(data.train, ConcatDatasetConfig)
    assert {part.classes for part in data.train.datasets} == {data.val.classes} == {("bolt", "nut")}
    data.resolved()


def test_datasets_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    plain = COCO.replace("STEPS", "[]")
    flipped = COCO.replace("STEPS", "[dict(type='RandomFlip', prob=0.5)]")
    found = imported(tmp_path, f"dict(type='ConcatDataset', datasets=[{plain}, {flipped}])")
    assert any("datasets.1.pipeline: the images of all datasets go through" in note for note in notes(found))

    other = plain.replace("ann_file", "metainfo=dict(classes=('bolt',)), ann_file")
    found = imported(tmp_path, f"dict(type='ConcatDataset', datasets=[{plain}, {other}])")
    assert any("have the same classes, and these have not" in note for note in notes(found))
    assert data_of(found).train.classes == COCO_CLASSES

    wrapped = f"dict(type='RepeatDataset', times=2, dataset={plain})"
    found = imported(tmp_path, f"dict(type='ConcatDataset', datasets=[{plain}, {wrapped}])")
    assert any("the dataset inside is used" in note for note in notes(found))


def test_lvis_with_rare_classes_more_often(tmp_path: Path) -> None:
    lvis = (
        "dict(type='LVISV1Dataset', data_root='data/lvis_v1/', ann_file='a.json', data_prefix=dict(img=''))"
    )
    found = imported(
        tmp_path,
        f"dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset={lvis})",
        lvis,
        classes=1203,
    )
    data = data_of(found)
    assert data.train == data.val == LVISV1DatasetConfig(data_root="data/lvis_v1", ann_file="a.json")
    assert data.oversample_thr == 0.001
    assert not notes(found)


def test_lviss_metric_is_what_lviss_annotations_get(tmp_path: Path) -> None:
    path = tmp_path / "metric.py"
    path.write_text(TWO_STAGE + "val_evaluator = dict(type='LVISMetric', metric=['bbox'])\n")
    found = import_config(read_config(path))
    assert [(e.path, e.note) for e in found.record.of(Status.DEFAULTED) if e.path == "val_evaluator"] == [
        ("val_evaluator", "LVIS's annotations are judged by LVIS's rules")
    ]
