"""Small configs in MMDetection's style, one a family: two bases, and what each changes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TWO_STAGE: Final = """
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
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=1024, roi_feat_size=7, num_classes=3,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='L1Loss'))),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
            sampler=dict(type='RandomSampler', num=256, pos_fraction=0.5, add_gt_as_proposals=False),
            allowed_border=-1, pos_weight=-1, debug=False),
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000, min_bbox_size=0, nms=dict(type='nms', iou_threshold=0.7)),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5,
                match_low_quality=False),
            sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25), pos_weight=-1, debug=False)),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, min_bbox_size=0, nms=dict(type='nms', iou_threshold=0.7)),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
"""

ONE_STAGE: Final = """
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=50, frozen_stages=1),
    neck=dict(
        type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, start_level=1, num_outs=5,
        add_extra_convs='on_output'),
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=256, stacked_convs=4, feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
        allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100))
"""

RUN: Final = """
data_root = 'data/mine/'
classes = ('bolt', 'nut', 'washer')
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(640, 400), keep_ratio=True), dict(type='RandomFlip', prob=0.3),
    dict(type='PackDetInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(640, 400), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path'))]
train_dataloader = dict(
    batch_size=4, num_workers=3, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True), batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='train.json', data_prefix=dict(img='images/'),
        metainfo=dict(classes=classes), filter_cfg=dict(filter_empty_gt=True, min_size=16),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=2, num_workers=3, drop_last=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='val.json', data_prefix=dict(img='images/'),
        metainfo=dict(classes=classes), test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'val.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.2)]
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.8, weight_decay=0.0005),
    clip_grad=dict(max_norm=10, norm_type=2))
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=25),
    checkpoint=dict(type='CheckpointHook', interval=1, save_best='coco/bbox_mAP'))
default_scope = 'mmdet'
"""

SIX = "in_channels=256, num_classes=3, stacked_convs=4, feat_channels=256"
ONE_ANCHOR = "dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16, 32, 64, 128])"
TOPK = "dict(_delete_=True, assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False)"

FAMILIES: Final[dict[str, tuple[str, str]]] = {
    "faster_rcnn": (TWO_STAGE, "dict()"),
    "double_head": (
        TWO_STAGE,
        (
            "dict(roi_head=dict(type='DoubleHeadRoIHead', reg_roi_scale_factor=1.3, bbox_head=dict(_delete_=True, "
            "type='DoubleConvFCBBoxHead', num_convs=4, num_fcs=2, in_channels=256, num_classes=3, roi_feat_size=7, "
            "loss_cls=dict(type='CrossEntropyLoss', loss_weight=2.0), "
            "loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=2.0))))"
        ),
    ),
    "mask_rcnn": (
        TWO_STAGE,
        (
            "dict(type='MaskRCNN', roi_head=dict(mask_roi_extractor=dict(type='SingleRoIExtractor', out_channels=256, "
            "featmap_strides=[4, 8, 16, 32], roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0)), "
            "mask_head=dict(type='FCNMaskHead', num_convs=4, in_channels=256, conv_out_channels=256, num_classes=3, "
            "loss_mask=dict(type='CrossEntropyLoss', use_mask=True))), "
            "train_cfg=dict(rcnn=dict(mask_size=28)), test_cfg=dict(rcnn=dict(mask_thr_binary=0.4)))"
        ),
    ),
    "cascade_rcnn": (
        TWO_STAGE,
        (
            "dict(type='CascadeRCNN', roi_head=dict(type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 0.5], "
            "bbox_head=[dict(type='Shared2FCBBoxHead', in_channels=256, roi_feat_size=7, num_classes=3, "
            "reg_class_agnostic=True, loss_bbox=dict(type='SmoothL1Loss', beta=1.0))] * 2), "
            "train_cfg=dict(rcnn=[dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=t, neg_iou_thr=t, "
            "min_pos_iou=t), sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25), pos_weight=-1) "
            "for t in (0.5, 0.6)]))"
        ),
    ),
    "libra": (
        TWO_STAGE,
        (
            "dict(neck=[dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5), "
            "dict(type='BFP', in_channels=256, num_levels=5, refine_level=2, refine_type='non_local')], "
            "roi_head=dict(bbox_head=dict(loss_bbox=dict(_delete_=True, type='BalancedL1Loss', alpha=0.5, gamma=1.5))))"
        ),
    ),
    "ohem": (TWO_STAGE, "dict(train_cfg=dict(rcnn=dict(sampler=dict(type='OHEMSampler'))))"),
    "pafpn": (TWO_STAGE, "dict(neck=dict(type='PAFPN'))"),
    "giou": (
        TWO_STAGE,
        (
            "dict(roi_head=dict(bbox_head=dict(reg_decoded_bbox=True, "
            "loss_bbox=dict(type='GIoULoss', loss_weight=10.0))))"
        ),
    ),
    "dcnv2": (
        TWO_STAGE,
        (
            "dict(backbone=dict(dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False), "
            "stage_with_dcn=(False, True, True, True)))"
        ),
    ),
    "gn_ws": (
        TWO_STAGE,
        (
            "dict(backbone=dict(conv_cfg=dict(type='ConvWS'), norm_cfg=dict(_delete_=True, type='GN', num_groups=32)), "
            "neck=dict(conv_cfg=dict(type='ConvWS'), norm_cfg=dict(type='GN', num_groups=32)))"
        ),
    ),
    "resnext": (TWO_STAGE, "dict(backbone=dict(type='ResNeXt', depth=101, groups=64, base_width=4))"),
    "regnet": (
        TWO_STAGE,
        (
            "dict(backbone=dict(_delete_=True, type='RegNet', arch='regnetx_800mf', out_indices=(0, 1, 2, 3)), "
            "neck=dict(in_channels=[64, 128, 288, 672]))"
        ),
    ),
    "res2net": (TWO_STAGE, "dict(backbone=dict(type='Res2Net', depth=101, scales=4, base_width=26))"),
    "hrnet": (
        TWO_STAGE,
        (
            "dict(backbone=dict(_delete_=True, type='HRNet', extra=dict("
            "stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)), "
            "stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(4, 4), num_channels=(18, 36)), "
            "stage3=dict(num_modules=4, num_branches=3, block='BASIC', num_blocks=(4,) * 3, num_channels=(18, 36, 72)), "
            "stage4=dict(num_modules=3, num_branches=4, block='BASIC', num_blocks=(4,) * 4, "
            "num_channels=(18, 36, 72, 144)))), "
            "neck=dict(_delete_=True, type='HRFPN', in_channels=[18, 36, 72, 144], out_channels=256))"
        ),
    ),
    "swin": (
        TWO_STAGE,
        (
            "dict(backbone=dict(_delete_=True, type='SwinTransformer', embed_dims=96, depths=[2, 2, 6, 2], "
            "num_heads=[3, 6, 12, 24], window_size=7, drop_path_rate=0.2, convert_weights=True), "
            "neck=dict(in_channels=[96, 192, 384, 768]))"
        ),
    ),
    "retinanet": (ONE_STAGE, "dict()"),
    "ghm": (
        ONE_STAGE,
        (
            "dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='GHMC', bins=30, momentum=0.75), "
            "loss_bbox=dict(_delete_=True, type='GHMR', mu=0.02, bins=10, momentum=0.7)))"
        ),
    ),
    "fcos": (
        ONE_STAGE,
        (
            f"dict(type='FCOS', bbox_head=dict(_delete_=True, type='FCOSHead', {SIX}, strides=[8, 16, 32, 64, 128], "
            "loss_bbox=dict(type='IoULoss', loss_weight=1.0)), train_cfg=None)"
        ),
    ),
    "atss": (
        ONE_STAGE,
        (
            f"dict(type='ATSS', bbox_head=dict(_delete_=True, type='ATSSHead', {SIX}, anchor_generator={ONE_ANCHOR}, "
            "bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]), "
            "loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='GIoULoss', loss_weight=2.0)), "
            f"train_cfg={TOPK})"
        ),
    ),
    "gfl": (
        ONE_STAGE,
        (
            f"dict(type='GFL', bbox_head=dict(_delete_=True, type='GFLHead', {SIX}, anchor_generator={ONE_ANCHOR}, "
            "loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0), reg_max=16, "
            "loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25), "
            f"loss_bbox=dict(type='GIoULoss', loss_weight=2.0)), train_cfg={TOPK})"
        ),
    ),
    "yolof": (
        ONE_STAGE,
        (
            "dict(type='YOLOF', backbone=dict(out_indices=(3,)), neck=dict(_delete_=True, type='DilatedEncoder', "
            "in_channels=2048, out_channels=512, block_mid_channels=128, num_residual_blocks=4, "
            "block_dilations=[2, 4, 6, 8]), bbox_head=dict(_delete_=True, type='YOLOFHead', num_classes=3, "
            "in_channels=512, reg_decoded_bbox=True, anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], "
            "scales=[1, 2, 4, 8, 16], strides=[32]), bbox_coder=dict(type='DeltaXYWHBBoxCoder', add_ctr_clamp=True), "
            "loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='GIoULoss')), "
            "train_cfg=dict(_delete_=True, assigner=dict(type='UniformAssigner', pos_ignore_thr=0.15, "
            "neg_ignore_thr=0.7), allowed_border=-1, pos_weight=-1, debug=False))"
        ),
    ),
    "solo": (
        ONE_STAGE,
        (
            "dict(_delete_=True, type='SOLO', backbone=dict(type='ResNet', depth=50), neck=dict(type='FPN', "
            "in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5), mask_head=dict(type='SOLOHead', "
            "num_classes=3, in_channels=256, stacked_convs=7, feat_channels=256, strides=[8, 8, 16, 32, 32], "
            "loss_mask=dict(type='DiceLoss', use_sigmoid=True, activate=False, loss_weight=3.0)), "
            "test_cfg=dict(nms_pre=500, score_thr=0.1, mask_thr=0.5, filter_thr=0.05, kernel='gaussian', sigma=2.0, "
            "max_per_img=100))"
        ),
    ),
}
"""The base's text, and what the family changes in its model."""


def write_config(folder: Path, family: str) -> Path:
    """The files of a family's config, in the folder."""
    base, change = FAMILIES[family]
    (folder / "_base_.py").write_text(base)
    (folder / "run.py").write_text(RUN)
    path = folder / f"{family}.py"
    path.write_text(f"_base_ = ['_base_.py', 'run.py']\nmodel = {change}\n")
    return path
