"""A detector and data so small that a training takes a moment."""

from __future__ import annotations

from typing import Any

from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.transforms import RandomFlipConfig
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.experiment import ExperimentConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import AdamWConfig, SGDConfig
from detcfg.recipe.schedules import CosineConfig, MultiStepConfig

SAMPLER: SamplerConfig = RandomSamplerConfig(num=16, pos_fraction=0.5)
RPN_SAMPLER: SamplerConfig = RandomSamplerConfig(num=16, pos_fraction=0.5, add_gt_as_proposals=False)


@frozen(kw_only=True)
class Model(FasterRCNNConfig):
    backbone: BackboneConfig = ResNetConfig(depth=18, base_channels=8, norm_eval=False)
    neck: NeckConfig | None = FPNConfig(out_channels=8)
    rpn_head: ProposalHeadConfig = RPNHeadConfig(feat_channels=8, sampler=RPN_SAMPLER)
    roi_head: RoIHeadConfig = StandardRoIHeadConfig(
        bbox_head=Shared2FCBBoxHeadConfig(fc_out_channels=8), sampler=SAMPLER
    )


@frozen(kw_only=True)
class Experiment(ExperimentConfig):
    model: FasterRCNNConfig = Model()
    data: DataConfig = DataConfig(
        train=DemoDatasetConfig(num_images=6, image_size=(64, 64)),
        val=DemoDatasetConfig(split="val", num_images=2, image_size=(64, 64)),
        train_transforms=(RandomFlipConfig(),),
        val_transforms=(),
        num_workers=0,
    )
    trainer: TrainerConfig = TrainerConfig(
        epochs=2,
        optimizer=SGDConfig(lr=0.02),
        schedule=MultiStepConfig(warmup_iters=2, milestones=(1,)),
        device="cpu",
    )


def experiment(**trainer: Any) -> Experiment:
    """The experiment with other values in its trainer."""
    return evolve(Experiment(), trainer=evolve(Experiment().trainer, **trainer))


def full(**trainer: Any) -> Experiment:
    """A training with all that has a state."""
    given = experiment(
        epochs=3,
        optimizer=AdamWConfig(lr=1e-3),
        schedule=CosineConfig(warmup_iters=3),
        ema=EMAConfig(momentum=0.1, gamma=2),
        clip_grad=ClipGradConfig(),
        accumulate=2,
        checkpoint_interval=1,
        log_interval=1,
        **trainer,
    )
    train = DemoDatasetConfig(num_images=10, image_size=(64, 64))
    return evolve(given, data=evolve(given.data, train=train))
