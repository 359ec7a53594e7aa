"""Tiny two-stage detectors, and what their RoI heads read."""

from __future__ import annotations

import torch
from attrs import evolve

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.detectors.cascade_rcnn import CascadeRCNNConfig
from detcfg.detectors.mask_rcnn import MaskRCNNConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.cascade_roi_head import CascadeRoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.structures import ImageBatch, Targets

MASK_ROI_HEAD = MaskRCNNConfig().roi_head
assert isinstance(MASK_ROI_HEAD, StandardRoIHeadConfig)
MASK_RCNN = MaskRCNNConfig(
    num_classes=3,
    backbone=ResNetConfig(depth=18, base_channels=8),
    neck=FPNConfig(out_channels=16),
    rpn_head=RPNHeadConfig(feat_channels=16),
    roi_head=evolve(
        MASK_ROI_HEAD,
        bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=16),
        mask_head=FCNMaskHeadConfig(num_convs=1, conv_out_channels=8),
    ),
)
CASCADE_BBOX_HEAD = Shared2FCBBoxHeadConfig(fc_out_channels=16, reg_class_agnostic=True)
CASCADE_ROI_HEAD = CascadeRoIHeadConfig(bbox_head=CASCADE_BBOX_HEAD)
CASCADE = CascadeRCNNConfig(
    num_classes=3,
    backbone=ResNetConfig(depth=18, base_channels=8),
    neck=FPNConfig(out_channels=16),
    rpn_head=RPNHeadConfig(feat_channels=16),
    roi_head=CASCADE_ROI_HEAD,
)
BATCH = ImageBatch(
    tensor=torch.zeros(1, 3, 64, 64), sizes=((64, 64),), padded_sizes=((64, 64),), output_sizes=((64, 64),)
)


def sampled(masks: torch.Tensor | None, boxes: torch.Tensor, labels: torch.Tensor) -> SamplingResult:
    """Every object is its own positive, and there are no negatives."""
    indices = torch.arange(len(boxes))
    return SamplingResult(
        pos_inds=indices,
        neg_inds=indices[:0],
        pos_priors=boxes,
        neg_priors=boxes[:0],
        pos_is_gt=indices >= 0,
        pos_assigned_gt_inds=indices,
        pos_gt_bboxes=boxes,
        pos_gt_labels=labels,
        targets=Targets(boxes=boxes, labels=labels, masks=masks),
    )
