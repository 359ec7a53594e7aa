"""Mask R-CNN with the seesaw loss, ResNet-50-FPN, 24 epochs on LVIS v1.

Paper: Wang et al., 2020, https://arxiv.org/abs/2008.10032
Reference: MMDetection's seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1, 25.6 box AP and
25.0 mask AP.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.data.lvis import LVISV1DatasetConfig
from detcfg.data.transforms import RandomChoiceResizeConfig, RandomFlipConfig
from detcfg.detectors.mask_rcnn import ROI_HEAD
from detcfg.experiments import mask_rcnn
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.layers.linear import NormedLinearConfig
from detcfg.losses.seesaw import SeesawLossConfig
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.schedules import MultiStepConfig


@frozen(kw_only=True)
class Model(mask_rcnn.Model):
    roi_head: StandardRoIHeadConfig = evolve(
        ROI_HEAD,
        bbox_head=Shared2FCBBoxHeadConfig(
            cls_predictor_cfg=NormedLinearConfig(temperature=20.0), loss_cls=SeesawLossConfig()
        ),
        test_cfg=RoITestConfig(score_thr=0.0001, max_per_img=300),
    )


@frozen(kw_only=True)
class Experiment(mask_rcnn.Experiment):
    model: Model = Model()
    trainer: TrainerConfig = TrainerConfig(epochs=24, schedule=MultiStepConfig(milestones=(16, 22)))
    data: DataConfig = evolve(
        mask_rcnn.Experiment().data,
        train=LVISV1DatasetConfig(),
        val=LVISV1DatasetConfig(ann_file="annotations/lvis_v1_val.json"),
        train_transforms=(RandomChoiceResizeConfig(), RandomFlipConfig()),
    )
