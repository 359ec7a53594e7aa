"""Written experiments read as if a person had written them."""

from __future__ import annotations

from pathlib import Path

import pytest

from detcfg.config.diff import diff
from detcfg.config.load import load
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.command import known_experiments
from detcfg.interop.mmdet.experiment import import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from detcfg.interop.mmdet.write import as_written, write_experiment
from tests.support.small_configs import RUN, write_config

CAFFE = """
model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(norm_cfg=dict(type='BN', requires_grad=False), style='caffe', init_cfg=None))
"""


def text_of(tmp_path: Path, family: str, more: str = "") -> str:
    """The experiment of a small config and what `more` changes, which says the same as the config."""
    name = write_config(tmp_path, family).name
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = {name!r}\n{more}")
    found = import_config(read_config(path))
    text = write_experiment(found, known_experiments())
    written = tmp_path / "written.py"
    written.write_text(text)
    experiment = load(written, ExperimentConfig)
    experiment.resolved()
    assert {d.path for d in diff(experiment, as_written(found, experiment))} <= {"", "model"}
    return text


@pytest.mark.parametrize(("family", "parent"), [("faster_rcnn", "faster_rcnn"), ("mask_rcnn", "mask_rcnn")])
def test_a_parent_is_not_one_that_the_child_takes_back(tmp_path: Path, family: str, parent: str) -> None:
    # Cascade RPN and Seesaw have more of such a config's values, and another head or loss.
    text = text_of(tmp_path, family, CAFFE)
    assert f"class Model({parent}.Model):" in text
    assert "rpn_head" not in text


def test_what_differs_in_a_component_is_evolved_from_the_parents(tmp_path: Path) -> None:
    text = text_of(tmp_path, "double_head", "model = dict(roi_head=dict(reg_roi_scale_factor=1.5))")
    assert "evolve(double_head.Model().roi_head, reg_roi_scale_factor=1.5)" in " ".join(text.split())
    assert "from detcfg.config import evolve\n" in text


def test_a_quotient_is_written_as_one(tmp_path: Path) -> None:
    loss = "dict(_delete_=True, type='SmoothL1Loss', beta=1.0 / 9.0)"
    assert "beta=1 / 9" in text_of(tmp_path, "faster_rcnn", f"model = dict(rpn_head=dict(loss_bbox={loss}))")


def test_names_of_classes_that_detcfg_has_are_imported(tmp_path: Path) -> None:
    voc = "dict(type='VOCDataset', ann_file='VOC2007/a.txt', data_prefix=dict(sub_data_root='VOC2007/'))"
    two = f"dict(_delete_=True, type='ConcatDataset', datasets=[{voc}, {voc}])"
    text = text_of(
        tmp_path,
        "faster_rcnn",
        f"train_dataloader = dict(dataset={two})\nval_dataloader = dict(dataset={two})\n"
        f"test_dataloader = dict(dataset={two})",
    )
    assert "from detcfg.data.classes import VOC_CLASSES" in text
    assert "tvmonitor" not in text


def test_what_stands_in_one_line_is_commented_once(tmp_path: Path) -> None:
    assert "test_dataloader = val_dataloader" in RUN
    text = text_of(
        tmp_path,
        "faster_rcnn",
        "val_dataloader = dict(sampler=dict(_delete_=True, type='Odd'))\ntest_dataloader = val_dataloader",
    )
    assert "val_dataloader.sampler (line 2)" in text
    assert "test_dataloader.sampler" not in text


def test_values_that_fit_only_together_are_settled_together(tmp_path: Path) -> None:
    # out_channels contradicts the strides that come out by themselves, not those that stand after it.
    concat = (
        "dict(_delete_=True, type='GenericRoIExtractor', aggregation='concat', out_channels=256, "
        "featmap_strides=[4], roi_layer=dict(type='RoIAlign', output_size=14))"
    )
    path = tmp_path / "x.py"
    path.write_text(
        f"_base_ = {write_config(tmp_path, 'mask_rcnn').name!r}\n"
        f"model = dict(roi_head=dict(mask_roi_extractor={concat}))\n"
    )
    found = import_config(read_config(path))
    assert not list(found.record.of(Status.UNSUPPORTED))
    assert "featmap_strides=(4,)" in write_experiment(found, {})
