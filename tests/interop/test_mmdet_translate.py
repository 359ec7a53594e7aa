"""A `model` dict becomes the config of the same names, and nothing of it goes lost without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve, frozen

from detcfg import load_experiment
from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import ConfigError
from detcfg.config.diff import diff
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.two_stage import TwoStageDetectorConfig
from detcfg.interop.mmdet.data import Node
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from detcfg.interop.mmdet.translate import Translation, translate_model

FASTER = """
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True, style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(
        type='RPNHead', in_channels=256, feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0] * 4),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=1024, roi_feat_size=7, num_classes=80,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False, loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0))),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3,
                match_low_quality=True, ignore_iof_thr=-1),
            sampler=dict(
                type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1, pos_weight=-1, debug=False),
        rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5,
                match_low_quality=False, ignore_iof_thr=-1),
            sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, add_gt_as_proposals=True),
            pos_weight=-1, debug=False)),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
"""


def translated(tmp_path: Path, text: str, **options: Any) -> Translation:
    path = tmp_path / "x.py"
    path.write_text(text)
    return translate_model(cast("Node", read_config(path).data["model"]), **options)


def with_change(tmp_path: Path, change: str) -> Translation:
    (tmp_path / "base.py").write_text(FASTER)
    return translated(tmp_path, f"_base_ = 'base.py'\nmodel = {change}")


def notes(translation: Translation, status: Status = Status.UNSUPPORTED) -> dict[str, str]:
    return {entry.path: entry.note for entry in translation.record.of(status)}


def test_faster_r_cnn_is_the_experiment_of_that_name(tmp_path: Path) -> None:
    found = translated(tmp_path, FASTER)
    assert not notes(found)
    assert found.num_classes == 80
    assert not found.missing
    ours = load_experiment("faster_rcnn").resolved().model
    (own_class,) = diff(ours, found.complete.resolved())
    assert own_class.path == ""


def test_what_follows_from_the_rest_is_left_out(tmp_path: Path) -> None:
    found = translated(tmp_path, FASTER)
    model = cast("TwoStageDetectorConfig", found.model)
    assert repr(model.rpn_head.in_channels) == "<derived>"
    assert "follows from the rest" in notes(found, Status.CARRIED)["model.rpn_head.in_channels"]


def test_a_value_that_contradicts_the_rest_is_reported_with_its_place(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(rpn_head=dict(in_channels=128))")
    (entry,) = found.record.of(Status.UNSUPPORTED)
    assert entry.path == "model.rpn_head.in_channels"
    assert "rpn_head.in_channels is 128, but neck.feature_channels makes it 256" in entry.note
    assert str(entry.location) == f"{tmp_path / 'x.py'}:2"


def test_a_missing_component_is_named_and_the_rest_comes_along(tmp_path: Path) -> None:
    found = with_change(
        tmp_path, "dict(neck=dict(_delete_=True, type='MyNeck', depth=3, norm=dict(type='GN')))"
    )
    (missing,) = found.missing
    assert (missing.name, missing.kind, missing.path) == ("MyNeck", "NeckConfig", "model.neck")
    assert missing.reason == "detcfg has no MyNeck"
    neck = cast("Any", cast("TwoStageDetectorConfig", found.model).neck)
    assert type(neck).__name__ == "MyNeckConfig"
    assert neck.depth == 3
    assert type(neck.norm).__name__ == "GNConfig"
    with pytest.raises(NotImplementedError, match=r"MyNeckConfig\.build is to be written"):
        neck.build()


def test_a_component_of_another_kind_is_no_substitute(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(neck=dict(_delete_=True, type='ResNet', depth=18))")
    assert found.missing[0].reason == "ResNetConfig is no NeckConfig"


def test_a_field_that_detcfg_lacks_is_reported_with_the_nearest(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(backbone=dict(frozen_stage=2))")
    assert notes(found) == {
        "model.backbone.frozen_stage": "ResNetConfig has no field 'frozen_stage'. Did you mean 'frozen_stages'?"
    }


def test_a_value_of_a_wrong_kind_is_reported(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(backbone=dict(depth=51))")
    assert notes(found) == {
        "model.backbone.depth": "ResNetConfig.depth must be one of 18, 34, 50, 101, 152, 200, not 51."
    }


def test_a_value_that_detcfg_refuses_is_reported(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(test_cfg=dict(rcnn=dict(nms=dict(iou_threshold=1.5))))")
    assert notes(found) == {
        "model.roi_head.test_cfg.nms.iou_threshold": "NMSConfig.iou_threshold must be float from 0 to 1, not 1.5."
    }


def test_a_component_without_a_value_that_it_needs_is_missing(tmp_path: Path) -> None:
    assigner = "dict(_delete_=True, type='MaxIoUAssigner', pos_iou_thr=0.5)"
    found = with_change(tmp_path, f"dict(train_cfg=dict(rpn=dict(assigner={assigner})))")
    assert "missing 1 required keyword-only argument: 'neg_iou_thr'" in found.missing[0].reason


def test_settings_of_training_and_testing_go_into_the_heads(tmp_path: Path) -> None:
    found = with_change(
        tmp_path,
        "dict(train_cfg=dict(rpn=dict(allowed_border=7), rcnn=dict(sampler=dict(num=64))), "
        "test_cfg=dict(rpn=dict(nms_pre=11), rcnn=dict(score_thr=0.25)))",
    )
    model = cast("Any", found.model)
    assert model.rpn_head.allowed_border == 7
    assert model.rpn_head.test_cfg.nms_pre == 11
    assert model.rpn_head.rpn_proposal.nms_pre == 2000
    assert model.roi_head.sampler.num == 64
    assert model.roi_head.test_cfg.score_thr == 0.25


@pytest.mark.parametrize(
    ("change", "order"), [("dict(bgr_to_rgb=False)", "bgr"), ("dict(bgr_to_rgb=True)", "rgb")]
)
def test_the_order_of_channels_is_what_the_network_sees(tmp_path: Path, change: str, order: str) -> None:
    found = with_change(tmp_path, f"dict(data_preprocessor={change})")
    assert found.model.data_preprocessor.channel_order == order


def test_a_preprocessor_that_says_nothing_neither_normalises_nor_pads(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(data_preprocessor=dict(_delete_=True, type='DetDataPreprocessor'))")
    assert found.model.data_preprocessor == DetDataPreprocessorConfig(
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channel_order="bgr", pad_size_divisor=1
    )


def test_what_the_source_leaves_out_is_mmdetections_default_not_detcfgs(tmp_path: Path) -> None:
    found = with_change(
        tmp_path, "dict(rpn_head=dict(_delete_=True, type='RPNHead', in_channels=256, feat_channels=256))"
    )
    model = cast("Any", found.model)
    assert model.rpn_head.anchor_generator.scales == (8.0, 16.0, 32.0)
    assert model.rpn_head.loss_bbox.beta == 1 / 9


def test_a_head_of_proposals_with_guided_anchors_takes_mmdetections_defaults_too(tmp_path: Path) -> None:
    found = with_change(
        tmp_path,
        "dict(rpn_head=dict(_delete_=True, type='GARPNHead', in_channels=256), train_cfg=dict(rpn=dict("
        "ga_assigner=dict(type='ApproxMaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3), center_ratio=0.3)))",
    )
    head = cast("Any", found.complete.resolved()).rpn_head
    assert head.anchor_generator.scales == (8.0,)
    assert head.approx_anchor_generator.octave_base_scale == 8
    assert (head.loss_bbox.beta, head.center_ratio, type(head.ga_sampler)) == (1.0, 0.3, PseudoSamplerConfig)
    assert not notes(found)


def test_a_mask_head_without_upsampling_says_so_by_a_type_of_none(tmp_path: Path) -> None:
    change = (
        "dict(type='MaskRCNN', roi_head=dict(mask_roi_extractor=dict(type='SingleRoIExtractor', roi_layer="
    )
    change += "dict(type='RoIAlign', output_size=14), out_channels=256, featmap_strides=[4, 8, 16, 32]), "
    change += "mask_head=dict(type='FCNMaskHead', in_channels=256, upsample_cfg=dict(type=None))))"
    assert cast("Any", with_change(tmp_path, change).model).roi_head.mask_head.upsample_cfg is None


def test_the_losses_of_v3det_ask_the_heads_how_many_classes_there_are(tmp_path: Path) -> None:
    loss = "dict(_delete_=True, type='CrossEntropyCustomLoss', use_sigmoid=True, num_classes=80)"
    found = with_change(tmp_path, f"dict(roi_head=dict(bbox_head=dict(loss_cls={loss})))")
    assert not notes(found)
    model = cast("Any", found.complete.resolved())
    assert model.roi_head.bbox_head.cls_channels == 80


def test_fcos_predicts_classes_by_a_convolution_whatever_the_source_calls_it(tmp_path: Path) -> None:
    found = translated(
        tmp_path,
        "model = dict(type='FCOS', backbone=dict(type='ResNet', depth=18), neck=dict(type='FPN', "
        "in_channels=[64, 128, 256, 512], out_channels=64, num_outs=5), bbox_head=dict(type='FCOSHead', "
        "num_classes=7, in_channels=64, strides=[4, 8, 16, 32, 64], "
        "cls_predictor_cfg=dict(type='NormedLinear', tempearture=50, bias=True), "
        "loss_cls=dict(type='FocalCustomLoss', num_classes=7)))",
    )
    assert not found.missing
    head = cast("Any", found.model).bbox_head
    assert head.cls_predictor_cfg.temperature == 50
    assert type(head.loss_cls).__name__ == "FocalLossConfig"


def test_what_mmdetection_does_not_look_at_needs_no_field(tmp_path: Path) -> None:
    found = with_change(
        tmp_path,
        "dict(train_cfg=dict(rpn=dict(assigner=dict(iou_calculator=dict(type='BboxOverlaps2D')))), "
        "roi_head=dict(bbox_head=dict(predict_box_type='hbox', bbox_coder=dict(use_box_type=False))))",
    )
    assert not notes(found)


def test_pretrained_weights_of_torchvision_go_by_torchvisions_name(tmp_path: Path) -> None:
    model = cast("Any", translated(tmp_path, FASTER).model)
    assert model.backbone.pretrained == "ResNet50_Weights.IMAGENET1K_V1"


def test_other_pretrained_weights_have_to_be_fetched_by_hand(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(backbone=dict(init_cfg=dict(checkpoint='open-mmlab://x/y')))")
    assert notes(found) == {
        "model.backbone.init_cfg": "download open-mmlab://x/y and give `pretrained` its path"
    }


def test_types_with_a_scope_and_imported_classes_are_known_too(tmp_path: Path) -> None:
    found = with_change(tmp_path, "dict(backbone=dict(type='mmdet.ResNet'), neck=dict(type='mmdet.FPN'))")
    assert isinstance(cast("Any", found.model).backbone, ResNetConfig)
    other = with_change(tmp_path, "dict(backbone=dict(type='mmpretrain.ConvNeXt'))")
    assert other.missing[0].reason == "detcfg has no mmpretrain.ConvNeXt"


@frozen(kw_only=True)
class TwoMapsConfig(BackboneConfig):
    width: int = 8

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.width, 2 * self.width)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return (4, 8)

    def build(self) -> Backbone:
        raise NotImplementedError


def test_a_persons_own_component_is_found_in_their_module(tmp_path: Path) -> None:
    change = "dict(backbone=dict(_delete_=True, type='TwoMaps', width=4), neck=dict(in_channels=[4, 8]))"
    assert with_change(tmp_path, change).missing
    found = translate_model(cast("Node", read_config(tmp_path / "x.py").data["model"]), modules=(__name__,))
    assert cast("Any", found.model).backbone == TwoMapsConfig(width=4)


def test_a_model_that_detcfg_refuses_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_outs is 2"):
        with_change(tmp_path, "dict(neck=dict(num_outs=2))")


def test_each_value_of_the_source_is_in_the_record(tmp_path: Path) -> None:
    found = translated(tmp_path, FASTER)
    paths = {entry.path for entry in found.record.entries}
    leaves = _leaves(read_config(tmp_path / "x.py").data["model"], "model")
    lost = [path for path in leaves if path not in paths and not path.endswith(".type")]
    # Those of the settings are recorded where they go.
    assert [path for path in lost if "_cfg" not in path.split(".")[1]] == [
        "model.backbone.init_cfg.checkpoint"
    ]


def _leaves(node: Any, path: str) -> list[str]:
    if isinstance(node, dict):
        items = cast("dict[str, Any]", node).items()
        return [leaf for key, value in items for leaf in _leaves(value, f"{path}.{key}")]
    return [path]


def test_evolving_the_result_works_as_with_any_config(tmp_path: Path) -> None:
    model = cast("Any", translated(tmp_path, FASTER).complete)
    deeper = evolve(model, backbone=evolve(model.backbone, depth=101))
    assert deeper.resolved().backbone.depth == 101
