"""Double-Head R-CNN in small, trained on drawn scenes in minutes on two cores.

Nothing is downloaded: the scenes are `detcfg.data.demo`'s, and the weights start at random.
"""

from __future__ import annotations

from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import evolve
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.transforms import RandomFlipConfig
from detcfg.experiments import double_head
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.double_head_roi_head import DoubleHeadRoIHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.optimizers import AdamWConfig
from detcfg.recipe.schedules import CosineConfig

BBOX_HEAD = double_head.Model().roi_head.bbox_head


@frozen(kw_only=True)
class Model(double_head.Model):
    backbone: BackboneConfig = ResNetConfig(
        depth=18, base_channels=32, out_indices=(1, 2, 3), norm_eval=False
    )
    neck: NeckConfig | None = FPNConfig(out_channels=64, num_outs=3)
    rpn_head: ProposalHeadConfig = RPNHeadConfig(
        feat_channels=64,
        anchor_generator=AnchorGeneratorConfig(scales=(2.0, 3.0)),
        sampler=RandomSamplerConfig(num=128, pos_fraction=0.5, add_gt_as_proposals=False),
        rpn_proposal=RPNTestConfig(nms_pre=400, max_per_img=200),
        test_cfg=RPNTestConfig(nms_pre=200, max_per_img=100),
    )
    roi_head: DoubleHeadRoIHeadConfig = evolve(
        double_head.Model().roi_head,
        bbox_head=evolve(BBOX_HEAD, num_convs=1, conv_out_channels=128, fc_out_channels=256),
        sampler=RandomSamplerConfig(num=32, pos_fraction=0.25),
    )


@frozen(kw_only=True)
class Experiment(double_head.Experiment):
    model: Model = Model()
    data: DataConfig = DataConfig(
        train=DemoDatasetConfig(num_images=800),
        val=DemoDatasetConfig(split="val", num_images=100),
        train_transforms=(RandomFlipConfig(),),
        val_transforms=(),
        batch_size=4,
        val_batch_size=8,
        num_workers=1,
    )
    trainer: TrainerConfig = TrainerConfig(
        epochs=7,
        optimizer=AdamWConfig(lr=7e-4),
        schedule=CosineConfig(warmup_iters=100),
        clip_grad=ClipGradConfig(max_norm=10.0),
        base_batch_size=4,
        log_interval=20,
    )
