"""PointRend, ResNet-50-FPN, 12 epochs on COCO.

Paper: Kirillov et al., 2020, https://arxiv.org/abs/1912.08193
Reference: MMDetection's point_rend/point-rend_r50-caffe_fpn_ms-1x_coco, trained at several scales: 38.4 box AP
and 36.3 mask AP (its Mask R-CNN: 38.0 and 34.4 at one scale).
Its backbone starts from Detectron2's caffe-style weights (open-mmlab://detectron2/resnet50_caffe): give
`pretrained` the path of such a file.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiments import mask_rcnn, ms_rcnn
from detcfg.heads.roi.point_rend_roi_head import PointRendRoIHeadConfig


@frozen(kw_only=True)
class Model(mask_rcnn.Model):
    data_preprocessor: DetDataPreprocessorConfig = ms_rcnn.Model().data_preprocessor
    backbone: BackboneConfig = ms_rcnn.Model().backbone
    roi_head: PointRendRoIHeadConfig = PointRendRoIHeadConfig()


@frozen(kw_only=True)
class Experiment(mask_rcnn.Experiment):
    model: Model = Model()
