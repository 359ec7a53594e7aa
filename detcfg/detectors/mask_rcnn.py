"""Mask R-CNN."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig

ROI_HEAD: Final = StandardRoIHeadConfig(
    mask_roi_extractor=SingleRoIExtractorConfig(roi_layer=RoIAlignConfig(output_size=14)),
    mask_head=FCNMaskHeadConfig(),
    # As in MMDetection, every ground-truth box has a proposal whose mask is trained.
    assigner=MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
)
"""The RoI head, to evolve where a part of it is another."""


@frozen(kw_only=True)
class MaskRCNNConfig(FasterRCNNConfig):
    """Mask R-CNN (He et al., 2017, https://arxiv.org/abs/1703.06870), with a feature pyramid."""

    roi_head: RoIHeadConfig = ROI_HEAD
    """Feature maps and proposals to detections."""

    def build(self) -> MaskRCNN:
        return MaskRCNN(self.resolved())


class MaskRCNN(FasterRCNN):
    """Faster R-CNN whose RoI head predicts masks too."""
