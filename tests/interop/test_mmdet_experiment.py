"""An imported config is an experiment that a person could have written, and says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from attrs import evolve

from detcfg import load_experiment
from detcfg.config import Config
from detcfg.config.diff import Difference, diff
from detcfg.config.serialize import from_data, to_data
from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.data.transforms import RandomFlipConfig, ResizeConfig
from detcfg.data.voc import VOCDatasetConfig
from detcfg.errors import NotWrittenError
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.command import known_experiments
from detcfg.interop.mmdet.experiment import Imported, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from detcfg.interop.mmdet.write import as_written, write_experiment
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig, CustomKeyConfig, ParamwiseConfig, SGDConfig
from detcfg.recipe.schedules import CosineConfig, MultiStepConfig
from tests.support.small_configs import FAMILIES, RUN, TWO_STAGE, write_config

parents = cache(known_experiments)
STUBS = """
_base_ = ['_base_.py', 'run.py']
model = dict(
    backbone=dict(_delete_=True, type='MyNet', widths=[4, 8, 16, 32], act=dict(type='ReLU')),
    neck=dict(in_channels=[4, 8, 16, 32]))
train_dataloader = dict(dataset=dict(pipeline=[dict(type='MyCrop', size=(64, 32), share=0.5)]))
"""


def imported(tmp_path: Path, text: str, base: str = TWO_STAGE) -> Imported:
    (tmp_path / "_base_.py").write_text(base)
    (tmp_path / "run.py").write_text(RUN)
    path = tmp_path / "x.py"
    path.write_text(f"_base_ = ['_base_.py', 'run.py']\n{text}")
    return import_config(read_config(path))


def written(found: Imported, folder: Path, name: str) -> Path:
    path = folder / f"{name}_written.py"
    path.write_text(write_experiment(found, parents()))
    return path


def differences(found: Config, wanted: Config) -> list[Difference]:
    """The values that differ; an experiment's `Model` is a class of its own."""
    return [d for d in diff(found, wanted) if d.path not in ("", "model")]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_written_experiment_says_what_the_config_says(tmp_path: Path, family: str) -> None:
    found = import_config(read_config(write_config(tmp_path, family)))
    assert not found.missing
    assert not [e for e in found.record.of(Status.UNSUPPORTED) if e.path != "val_evaluator"]
    experiment = load_experiment(written(found, tmp_path, family))
    assert not differences(experiment, as_written(found, experiment))
    resolved = experiment.resolved()
    with torch.device("meta"):
        assert len(resolved.model.build().state_dict()) > 100
    data = json.loads(json.dumps(to_data(resolved)))
    modules = ("experiments", type(experiment).__module__)
    assert from_data(data, ExperimentConfig, allow=modules) == resolved


@pytest.mark.parametrize("family", ["double_head", "gfl", "atss"])
def test_the_parent_is_the_experiment_of_that_family(tmp_path: Path, family: str) -> None:
    found = import_config(read_config(write_config(tmp_path, family)))
    text = write_experiment(found, parents())
    assert f"class Experiment({family}.Experiment):" in text
    assert len(text.splitlines()) < 70


def test_what_equals_an_experiment_inherits_all_of_it(tmp_path: Path) -> None:
    found = import_config(read_config(write_config(tmp_path, "double_head")))
    text = write_experiment(found, parents())
    assert "class Model" not in text
    assert "roi_head" not in text


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_written_experiments_are_formatted_and_pass_pyright_strict(tmp_path: Path) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    for family in FAMILIES:
        written(import_config(read_config(write_config(tmp_path, family))), folder, family)
    (tmp_path / "stubs.py").write_text(STUBS)
    found = import_config(read_config(tmp_path / "stubs.py"))
    assert len(found.missing) == 2
    written(found, folder, "stubs")
    root = Path(__file__).parents[2]
    settings = {"typeCheckingMode": "strict", "include": ["written"], "extraPaths": [str(root)]}
    settings |= {"stubPath": str(root / ".typings")}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    if find_spec("ruff") is None:
        return
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--line-length=110", "--isolated"]
    known = "lint.isort.known-first-party=['detcfg', 'experiments']"
    for command in (
        [*ruff, "format", "--check", *options, "written"],
        [*ruff, "check", "--select=I,F", *options, "--config", known, "written"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_stub_carries_the_sources_fields_and_resolves(tmp_path: Path) -> None:
    found = imported(tmp_path, STUBS.partition("\n_base_")[2].partition("\n")[2])
    path = written(found, tmp_path, "stubs")
    text = path.read_text()
    assert "widths: tuple[int, ...] = (4, 8, 16, 32)" in text
    assert "act: ReLUConfig = ReLUConfig()" in text
    assert 'raise NotWrittenError(self, "build")' in text
    assert "return (4, 8, 16, 32)" in text
    experiment = load_experiment(path)
    resolved = experiment.resolved()
    assert cast("Any", resolved.model).neck.in_channels == (4, 8, 16, 32)
    with pytest.raises(NotWrittenError, match=rf"{path.name}: MyNetConfig\.build is to be written"):
        resolved.model.build()


def test_what_reads_a_stub_agrees_with_it_and_the_sources_other_word_is_a_comment(tmp_path: Path) -> None:
    neck = "dict(_delete_=True, type='MyNeck', in_channels=[2048, 1024, 512], out_channels=[64, 32, 16])"
    head = "dict(type='MyHead', num_classes=80, in_channels=[64, 32, 16], anchor_generator=dict(strides=[32, 16, 8]))"
    found = imported(
        tmp_path,
        f"model = dict(_delete_=True, type='SingleStageDetector', neck={neck.replace('_delete_=True, ', '')}, "
        f"backbone=dict(type='ResNet', depth=50, out_indices=(1, 2, 3)), bbox_head={head})",
    )
    path = written(found, tmp_path, "stubs")
    model: Any = load_experiment(path).resolved().model
    assert model.neck.feature_channels == model.bbox_head.in_channels == (16, 32, 64)
    assert model.neck.feature_strides == model.bbox_head.in_strides == (8, 16, 32)
    assert "neck.in_channels is (2048, 1024, 512), but backbone" in " ".join(path.read_text().split("\n#   "))


def test_a_detector_inside_a_stub_resolves_with_its_own_settings(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "model = dict(_delete_=True, type='MyTracker', detector=_base_.model, reid=dict(type='MyReID', "
        "backbone=dict(type='ResNet', depth=50, out_indices=(3,)), neck=dict(type='MyPool', size=4)))",
    )
    model: Any = load_experiment(written(found, tmp_path, "stubs")).resolved().model
    assert model.detector == imported(tmp_path, "").experiment.resolved().model
    assert model.reid.neck.size == 4
    with pytest.raises(NotWrittenError, match=r"MyTrackerConfig\.build"):
        model.build()


def test_a_stub_is_not_called_as_a_class_that_its_file_may_import(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "model = dict(backbone=dict(_delete_=True, type='MyNet', inner=dict(type='mmpretrain.ResNet', depth=18), "
        "backbone=dict(width=3)))",
    )
    text = written(found, tmp_path, "named").read_text()
    assert "class ResNet2Config(" in text
    assert "class Backbone" not in text or "class Backbone2Config(" in text
    assert load_experiment(tmp_path / "named_written.py").model.num_classes is not None


def test_data_and_training_come_along(tmp_path: Path) -> None:
    found = imported(tmp_path, "")
    names = ("bolt", "nut", "washer")
    val = CocoDatasetConfig(data_root="data/mine", ann_file="val.json", img_prefix="images", classes=names)
    assert found.data == DataConfig(
        train=CocoDatasetConfig(
            data_root="data/mine",
            ann_file="train.json",
            img_prefix="images",
            classes=names,
            filter_empty_gt=True,
            min_size=16,
        ),
        val=val,
        train_transforms=(ResizeConfig(scale=(640, 400)), RandomFlipConfig(prob=0.3)),
        val_transforms=(ResizeConfig(scale=(640, 400)),),
        batch_size=4,
        val_batch_size=2,
        num_workers=3,
    )
    assert found.trainer == TrainerConfig(
        epochs=24,
        val_interval=2,
        optimizer=SGDConfig(lr=0.01, momentum=0.8, weight_decay=0.0005),
        clip_grad=ClipGradConfig(max_norm=10.0),
        schedule=MultiStepConfig(warmup_iters=250, start_factor=0.01, milestones=(16, 22), gamma=0.2),
        base_batch_size=32,
        log_interval=25,
        save_best="bbox_AP",
    )


def test_repeated_data_is_more_epochs(tmp_path: Path) -> None:
    inner = "dict(type='CocoDataset', ann_file='a.json', pipeline=_base_.train_pipeline)"
    found = imported(
        tmp_path,
        f"train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=3, dataset={inner}))",
    )
    assert found.trainer.epochs == 72
    assert found.trainer.val_interval == 6
    assert cast("MultiStepConfig", found.trainer.schedule).milestones == (48, 66)


def test_other_optimizers_and_schedules(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        "optim_wrapper = dict(_delete_=True, type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=0.001, "
        "weight_decay=0.1), paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'backbone': dict(lr_mult=0.1)}))\n"
        "param_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-5, begin=12, end=24, T_max=12, by_epoch=True)]\n"
        "custom_hooks = [dict(type='EMAHook', momentum=0.0002), dict(type='NumClassCheckHook')]",
    )
    assert found.trainer.optimizer == AdamWConfig(
        lr=0.001,
        weight_decay=0.1,
        paramwise_cfg=ParamwiseConfig(
            norm_decay_mult=0.0, custom_keys=(CustomKeyConfig(key="backbone", lr_mult=0.1),)
        ),
    )
    assert found.trainer.amp == "fp16"
    assert found.trainer.schedule == CosineConfig(warmup_iters=0, begin=12, eta_min_ratio=0.01)
    assert found.trainer.ema is not None
    assert found.record.whole


VOC = """
train_dataloader = dict(dataset=dict(
    _delete_=True, type='VOCDataset', data_root='data/VOCdevkit/', ann_file='VOC2007/ImageSets/Main/train.txt',
    data_prefix=dict(sub_data_root='VOC2007/'), pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(
    _delete_=True, type='VOCDataset', data_root='data/VOCdevkit/', ann_file='VOC2007/ImageSets/Main/val.txt',
    data_prefix=dict(sub_data_root='VOC2007/'), test_mode=True, pipeline=_base_.test_pipeline))
model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
"""


def test_voc_comes_along(tmp_path: Path) -> None:
    found = imported(tmp_path, VOC)
    assert found.data is not None
    assert found.data.train == VOCDatasetConfig(
        data_root="data/VOCdevkit/VOC2007", ann_file="ImageSets/Main/train.txt"
    )
    assert len(found.data.classes) == 20


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("custom_hooks = [dict(type='YOLOXModeSwitchHook')]", "custom_hooks.0"),
        ("load_from = 'https://x.org/y.pth'", "load_from"),
        ("param_scheduler = [dict(type='PolyLR')]", "param_scheduler.0"),
        ("custom_imports = dict(imports=['mine'])", "custom_imports"),
        ("tta_model = dict(type='DetTTAModel')", "tta_model"),
        (
            "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=90000)",
            "train_cfg.max_iters",
        ),
        ("val_evaluator = dict(type='VOCMetric')", "val_evaluator"),
        ("train_dataloader = dict(sampler=dict(type='ClassAwareSampler'))", "train_dataloader.sampler"),
        ("optim_wrapper = dict(constructor='LearningRateDecay')", "optim_wrapper.constructor"),
    ],
)
def test_what_has_no_counterpart_is_a_comment_with_its_place(tmp_path: Path, text: str, path: str) -> None:
    found = imported(tmp_path, text)
    assert path in {entry.path for entry in found.record.of(Status.UNSUPPORTED)}
    source = write_experiment(found, parents())
    assert f"# - {path} (" in source
    assert "# Not supported:" in source


def test_each_top_level_key_is_in_the_record(tmp_path: Path) -> None:
    found = imported(tmp_path, "")
    tops = {entry.path.partition(".")[0] for entry in found.record.entries}
    helpers = {"data_root", "classes", "train_pipeline", "test_pipeline", "val_cfg", "test_cfg"}
    assert set(found.source.data) - tops <= helpers


OLD = """
model = dict(
    type='FasterRCNN', pretrained='torchvision://resnet50',
    backbone=dict(type='ResNet', depth=50, frozen_stages=1),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(
        type='RPNHead', in_channels=256, feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    roi_head=_base_.model.roi_head)
train_cfg = dict(
    rpn=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
        sampler=dict(type='RandomSampler', num=256, pos_fraction=0.5, add_gt_as_proposals=False),
        allowed_border=-1, pos_weight=-1, debug=False),
    rpn_proposal=dict(nms_across_levels=False, nms_pre=2000, nms_post=1000, max_num=1000, nms_thr=0.7, min_bbox_size=0),
    rcnn=_base_.model.train_cfg.rcnn)
test_cfg = dict(
    rpn=dict(nms_across_levels=False, nms_pre=1000, nms_post=1000, max_num=1000, nms_thr=0.7, min_bbox_size=0),
    rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_thr=0.5), max_per_img=100))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(640, 400), keep_ratio=True), dict(type='RandomFlip', flip_ratio=0.3),
    dict(type='Normalize', **img_norm_cfg), dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'), dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(640, 400), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'), dict(type='Normalize', **img_norm_cfg),
        dict(type='Pad', size_divisor=32), dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img'])])]
data_root = 'data/mine/'
classes = ('bolt', 'nut', 'washer')
data = dict(
    samples_per_gpu=4, workers_per_gpu=3,
    train=dict(
        type='CocoDataset', ann_file=data_root + 'train.json', img_prefix=data_root + 'images/',
        classes=classes, pipeline=train_pipeline),
    val=dict(
        type='CocoDataset', ann_file=data_root + 'val.json', img_prefix=data_root + 'images/',
        classes=classes, pipeline=test_pipeline),
    test=dict(
        type='CocoDataset', ann_file=data_root + 'val.json', img_prefix=data_root + 'images/',
        classes=classes, pipeline=test_pipeline))
evaluation = dict(interval=2, metric='bbox', save_best='bbox_mAP')
optimizer = dict(type='SGD', lr=0.01, momentum=0.8, weight_decay=0.0005)
optimizer_config = dict(grad_clip=dict(max_norm=10, norm_type=2))
lr_config = dict(
    policy='step', warmup='linear', warmup_iters=250, warmup_ratio=0.01, step=[16, 22], gamma=0.2)
runner = dict(type='EpochBasedRunner', max_epochs=24)
checkpoint_config = dict(interval=1)
log_config = dict(interval=25, hooks=[dict(type='TextLoggerHook')])
auto_scale_lr = dict(enable=False, base_batch_size=32)
dist_params = dict(backend='nccl')
workflow = [('train', 1)]
"""


def test_the_dialect_of_2_x_says_the_same(tmp_path: Path) -> None:
    new = imported(tmp_path, "train_dataloader = dict(dataset=dict(filter_cfg=None))")
    (tmp_path / "model_only.py").write_text(TWO_STAGE)
    path = tmp_path / "old.py"
    path.write_text(
        "_base_ = 'model_only.py'\n" + OLD.replace("model = dict(", "model = dict(_delete_=True, ", 1)
    )
    old = import_config(read_config(path))
    assert old.record.whole, [e.path for e in old.record.of(Status.UNSUPPORTED)]
    assert not differences(old.model, new.model)
    assert old.trainer == new.trainer
    assert new.data is not None
    assert old.data == evolve(new.data, val_batch_size=1)
