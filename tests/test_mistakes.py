"""Mistakes on the Double Head experiment are found before a weight is allocated, each said in few lines.

Each is written as a person would: a line of a child experiment, or an override on the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch

from detcfg import load_experiment
from detcfg.config import ConfigError
from detcfg.config.override import override

CHILD: Final = """
from attrs import evolve, frozen
from detcfg.backbones.mobilenet_v2 import MobileNetV2Config
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.data.coco import CocoDatasetConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.heads.bbox.double_conv_fc_bbox_head import DoubleConvFCBBoxHeadConfig
from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.standard_roi_head import RoITestConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.experiments import double_head

parent = double_head.Model()

{changed}

@frozen(kw_only=True)
class Experiment(double_head.Experiment):
    model: double_head.Model = {model}
"""

LINES: Final = {
    # A name that is spelt wrong.
    "evolve(parent, roi_head=DoubleHeadRoIHeadConfig(reg_roi_scael_factor=1.3))": "reg_roi_scale_factor",
    "evolve(parent, roi_haed=parent.roi_head)": "roi_head",
    "evolve(parent, backbone=ResNetConfig(frozen_stage=1))": "frozen_stages",
    "evolve(parent, neck=FPNConfig(num_out=5))": "num_outs",
    "evolve(parent, rpn_head=RPNHeadConfig(asigner=parent.rpn_head.assigner))": "assigner",
    "evolve(parent, rpn_head=RPNHeadConfig(assigner=MaxIoUAssignerConfig(pos_iou_thresh=0.7)))": "pos_iou_thr",
    "evolve(parent, rpn_head=RPNHeadConfig(sampler=RandomSamplerConfig(pos_frac=0.5)))": "pos_fraction",
    "evolve(parent, roi_head=evolve(parent.roi_head, test_cfg=RoITestConfig(score_thresh=0.1)))": "score_thr",
    # A component, or a value, of another type.
    "evolve(parent, neck=SmoothL1LossConfig())": "model.neck must be NeckConfig or None, not SmoothL1LossConfig",
    "evolve(parent, backbone=FPNConfig())": "model.backbone must be BackboneConfig, not FPNConfig",
    "evolve(parent, neck=FPNConfig(out_channels='256'))": "model.neck.out_channels must be int of at least 1, not '256'",
    "evolve(parent, rpn_head=RPNHeadConfig(num_convs=True))": "model.rpn_head.num_convs must be int from 1 to 1000, not True",
    # Parts that do not fit.
    "evolve(parent, neck=FPNConfig(in_channels=(64, 128, 256, 512)))": "model.backbone.feature_channels",
    "evolve(parent, backbone=MobileNetV2Config(), neck=FPNConfig(in_channels=(256, 512, 1024, 2048)))": (
        "model.backbone.feature_channels makes it (24, 32, 96, 1280)"
    ),
    "evolve(parent, rpn_head=RPNHeadConfig(in_channels=512))": "model.rpn_head.in_channels is 512",
    "evolve(parent, rpn_head=RPNHeadConfig(anchor_generator=AnchorGeneratorConfig(strides=(4, 8, 16))))": (
        "model.rpn_head.anchor_generator.strides is (4, 8, 16)"
    ),
    "evolve(parent, roi_head=evolve(parent.roi_head, bbox_head=DoubleConvFCBBoxHeadConfig(roi_feat_size=14)))": (
        "model.roi_head.bbox_roi_extractor.roi_layer.output_size makes it 7"
    ),
    "evolve(parent, roi_head=evolve(parent.roi_head, bbox_head=DoubleConvFCBBoxHeadConfig(num_classes=20)))": (
        "num_classes is 20"
    ),
    "evolve(parent, roi_head=evolve(parent.roi_head, bbox_roi_extractor=SingleRoIExtractorConfig("
    "featmap_strides=(8, 16, 32, 64))))": "featmap_strides is (8, 16, 32, 64)",
    "evolve(parent, num_classes=20)": "data.train.classes makes it 80",
    "evolve(parent, backbone=ResNetConfig(out_indices=(0, 1, 2, 4)))": "out_indices",
}

CLASSES: Final = {
    "@frozen(kw_only=True)\nclass Model(double_head.Model):\n    roi_haed: FPNConfig = FPNConfig()": "roi_haed",
    "@frozen(kw_only=True)\nclass Model(double_head.Model):\n    num_classes = 20": "num_classes",
    "class Model(double_head.Model):\n    num_classes: int = 20": "frozen",
}

OVERRIDES: Final = {
    "trainer.epoch=24": "Did you mean 'epochs'?",
    "model.roi_head.bbox_head.num_fc=2": "Did you mean 'num_fcs'?",
    "trainer.epochs=twelve": "trainer.epochs",
    "model.neck=detcfg.losses.l1:L1LossConfig": "model.neck",
    "model.neck.num_outs=2": "num_outs",
    "data.val.classes=['cat']": "val.classes has 1 names",
    "model.roi_head.assigner.pos_iou_thr=1.5": "pos_iou_thr",
}


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a weight was allocated")

    monkeypatch.setattr(torch, "empty", refuse)
    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)


def message_of(file: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_experiment(file).resolved()
    return str(error.value)


@pytest.mark.parametrize(("model", "says"), LINES.items())
def test_a_wrong_line_of_an_experiment_is_found(tmp_path: Path, model: str, says: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(CHILD.format(changed="", model=model))

    message = message_of(file)

    assert says in message
    assert len(message.splitlines()) < 6


@pytest.mark.parametrize(("changed", "says"), CLASSES.items())
def test_a_wrong_class_of_an_experiment_is_found(tmp_path: Path, changed: str, says: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(CHILD.format(changed=changed, model="Model()"))

    message = message_of(file)

    assert says in message
    assert f"{file}:" in message
    assert len(message.splitlines()) < 6


@pytest.mark.parametrize(("assignment", "says"), OVERRIDES.items())
def test_a_wrong_override_is_found(assignment: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(load_experiment("double_head"), assignment).resolved()

    assert says in str(error.value)
    assert len(str(error.value).splitlines()) < 6
