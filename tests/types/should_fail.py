"""Wrong configs: each marked line, and no other, must be rejected by each type checker (`checkers.py`).

What no checker can see is found when the class is made or the config resolves: `tests/config/test_base.py` and
`tests/test_mistakes.py` hold those. Numbers out of range are such: to every checker `FPNConfig(num_outs=0)` is an
`int` for an `int`, since none reads the bounds of an `Annotated`.
"""

from __future__ import annotations

from attrs import frozen

from detcfg import load_experiment
from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import ModuleConfig, evolve
from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from detcfg.experiments import double_head, faster_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.bbox.double_conv_fc_bbox_head import DoubleConvFCBBoxHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.necks.base import Neck, NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import SGDConfig
from detcfg.recipe.schedules import MultiStepConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig

BBOX_HEAD = double_head.Model().roi_head.bbox_head

# A field that does not exist.
DoubleHeadRoIHeadConfig(reg_roi_scael_factor=1.3)  # error
DoubleConvFCBBoxHeadConfig(num_conv=4)  # error
ResNetConfig(frozen_stage=1)  # error
FPNConfig(num_out=5)  # error
RPNHeadConfig(feat_channel=256)  # error
AnchorGeneratorConfig(scale=(8.0,))  # error
MaxIoUAssignerConfig(pos_iou_thresh=0.5)  # error
RandomSamplerConfig(nums=512)  # error
NMSConfig(iou_thr=0.5)  # error
SmoothL1LossConfig(betta=1.0)  # error
TrainerConfig(epoch=12)  # error
CocoDatasetConfig(annfile="train.json")  # error
SGDConfig(learning_rate=0.02)  # error
evolve(double_head.Model().roi_head, reg_roi_scale=1.3)  # error

# A value of another type.
ResNetConfig(depth="50")  # error
ResNetConfig(style="tensorflow")  # error
FPNConfig(add_extra_convs="on_outputs")  # error
DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.2))  # error
MaxIoUAssignerConfig(pos_iou_thr=(0.5, 0.6))  # error
AnchorGeneratorConfig(ratios=1.0)  # error
SingleRoIExtractorConfig(finest_scale=None)  # error
TrainerConfig(amp="float16")  # error
MultiStepConfig(milestones=["8", "11"])  # error
evolve(FPNConfig(), num_outs="five")  # error

# A component where another belongs.
DoubleHeadRoIHeadConfig(bbox_head=Shared2FCBBoxHeadConfig())  # error
double_head.Model(roi_head=StandardRoIHeadConfig())  # error
FasterRCNNConfig(neck=CrossEntropyLossConfig())  # error
FasterRCNNConfig(backbone=FPNConfig())  # error
Shared2FCBBoxHeadConfig(loss_cls=L1LossConfig())  # error
RPNHeadConfig(assigner=RandomSamplerConfig())  # error
StandardRoIHeadConfig(bbox_roi_extractor=Shared2FCBBoxHeadConfig())  # error
DataConfig(train=ResNetConfig(), val=CocoDatasetConfig(ann_file="a.json"))  # error
TrainerConfig(optimizer=MultiStepConfig())  # error
evolve(faster_rcnn.Model(), backbone=L1LossConfig())  # error
evolve(double_head.Model(), roi_head=StandardRoIHeadConfig())  # error
evolve(double_head.Model().roi_head, bbox_head=evolve(BBOX_HEAD, num_conv=4))  # error

# A config is never changed in place.
ResNetConfig().depth = 101  # error
double_head.Model().roi_head.reg_roi_scale_factor = 1.5  # error


@frozen(kw_only=True)
class OfAnotherKind(faster_rcnn.Model):
    roi_head: FPNConfig = FPNConfig()  # error


@frozen(kw_only=True)
class Wider(double_head.Model):
    roi_head: StandardRoIHeadConfig = StandardRoIHeadConfig()  # error


@frozen(kw_only=True)
class AnotherDefault(faster_rcnn.Model):
    roi_head: DoubleHeadRoIHeadConfig = StandardRoIHeadConfig()  # error


@frozen(kw_only=True)
class AnotherTypeOfNumber(FPNConfig):
    num_outs: str = "5"  # error


@frozen(kw_only=True)
class BuildsNoModule(BackboneConfig):
    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (1,)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return (1,)

    def build(self) -> str:  # error
        return "backbone"


@frozen(kw_only=True)
class NoBuild(ModuleConfig):
    pass


@frozen(kw_only=True)
class NoChannels(NeckConfig):
    def build(self) -> Neck:
        raise NotImplementedError


NoBuild()  # error
NoChannels()  # error

# What configs give has types too.
model: FasterRCNN = ResNetConfig().build()  # error
load_experiment("double_head").resolved().trainer.epoch  # error
double_head.Model().roi_head.bbox_head.num_conv  # error
