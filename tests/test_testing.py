"""`check_component` passes for what is shipped, and finds what breaks a contract."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.csp_darknet import CSPDarknetConfig
from detcfg.backbones.cspnext import CSPNeXtConfig
from detcfg.backbones.hrnet import HRExtraConfig, HRNetConfig, HRStageConfig
from detcfg.backbones.presnet import PResNetConfig
from detcfg.backbones.pvt import PyramidVisionTransformerConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.backbones.swin import SwinTransformerConfig
from detcfg.backbones.timm import TimmBackboneConfig
from detcfg.backbones.torchvision import TorchvisionBackboneConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.anchors.stretched import StretchedAnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.center_region import CenterRegionAssignerConfig
from detcfg.boxes.assigners.dynamic_soft_label import DynamicSoftLabelAssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.assigners.point import PointAssignerConfig
from detcfg.boxes.assigners.sim_ota import SimOTAAssignerConfig
from detcfg.boxes.assigners.task_aligned import TaskAlignedAssignerConfig
from detcfg.boxes.assigners.uniform import UniformAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.catalogue import Component, components
from detcfg.config import Config
from detcfg.data.concat import ConcatDatasetConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.subset import SubsetDatasetConfig
from detcfg.data.transforms import (
    ComposeConfig,
    Fields,
    RandomChoiceConfig,
    RandomChoiceResizeConfig,
    RandomCropConfig,
    RandomFlipConfig,
    RandomResizeConfig,
    ResizeConfig,
    Transform,
    TransformConfig,
)
from detcfg.heads.anchor_based.retina_head import RetinaHead, RetinaHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHead, StandardRoIHeadConfig
from detcfg.heads.roi.trident_roi_head import TridentRoIHeadConfig
from detcfg.losses.base import Loss, reduce_loss
from detcfg.losses.l1 import L1LossConfig, l1_loss
from detcfg.losses.seesaw import SeesawLossConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.dyhead import DyHeadConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.hybrid_encoder import HybridEncoderConfig
from detcfg.necks.sequential import SequentialNeckConfig
from detcfg.necks.simple_fpn import SimpleFeaturePyramidConfig
from detcfg.necks.yolox_pafpn import YOLOXPAFPNConfig
from detcfg.recipe.schedules import ScheduleConfig
from detcfg.structures import Detections, ImageBatch, Targets
from detcfg.testing import CHECKS, ContractError, check_component
from tests.support.config_fields import made
from tests.support.small import narrow

DEMO = DemoDatasetConfig(num_images=2, image_size=(64, 64))
BLOCK = HRStageConfig(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(1,), num_channels=(8,))


def _branches(count: int) -> HRStageConfig:
    widths = (8, 16, 32, 64)[:count]
    return HRStageConfig(num_modules=1, num_branches=count, num_blocks=(1,) * count, num_channels=widths)


GIVEN: dict[str, Config] = {
    type(config).__name__: config
    for config in (
        TimmBackboneConfig(name="resnet10t"),
        TorchvisionBackboneConfig(name="resnet18"),
        HRNetConfig(
            extra=HRExtraConfig(stage1=BLOCK, stage2=_branches(2), stage3=_branches(3), stage4=_branches(4))
        ),
        ResNetConfig(depth=18),
        PResNetConfig(depth=18),
        PyramidVisionTransformerConfig(num_layers=(1, 1, 1, 1)),
        SwinTransformerConfig(depths=(2, 1, 1, 1)),
        CSPDarknetConfig(deepen_factor=0.33),
        CSPNeXtConfig(deepen_factor=0.33),
        DyHeadConfig(num_blocks=1),
        HybridEncoderConfig(depth_mult=0.34),
        YOLOXPAFPNConfig(num_csp_blocks=1),
        SequentialNeckConfig(necks=(FPNConfig(),)),
        SimpleFeaturePyramidConfig(in_channels=(64,), in_strides=(16,)),
        AnchorGeneratorConfig(scales=(8.0,), strides=(8, 16)),
        StretchedAnchorGeneratorConfig(sizes=((16,), (32,)), strides=(8, 16)),
        ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4),
        CenterRegionAssignerConfig(pos_scale=0.2, neg_scale=0.5),
        MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4),
        UniformAssignerConfig(pos_ignore_thr=0.15, neg_ignore_thr=0.7),
        SeesawLossConfig(num_classes=3),
        DEMO,
        ConcatDatasetConfig(classes=DEMO.classes, datasets=(DEMO, DEMO)),
        SubsetDatasetConfig(classes=DEMO.classes, of=DEMO, first=1),
        ResizeConfig(scale=(200, 150)),
        RandomResizeConfig(scale=((200, 100), (240, 150))),
        RandomChoiceResizeConfig(scales=((200, 100), (240, 150))),
        RandomCropConfig(crop_size=(100, 120)),
        ComposeConfig(transforms=(RandomFlipConfig(), RandomCropConfig(crop_size=(100, 120)))),
        RandomChoiceConfig(transforms=(RandomFlipConfig(), ResizeConfig(scale=(200, 150)))),
        TridentRoIHeadConfig(num_branch=3, test_branch_idx=1),
    )
}
"""Components that have no defaults to check, or large ones."""
WIDTHS = {"RFPConfig": (256, 512, 1024, 2048)}
STRIDES = {
    "CenterNetHeadConfig": (4,),
    "YOLOFHeadConfig": (32,),
    **dict.fromkeys(
        ("SOLOHeadConfig", "DecoupledSOLOHeadConfig", "DecoupledSOLOLightHeadConfig", "SOLOV2HeadConfig"),
        (4, 8, 16, 32, 64),
    ),
}
"""Of dense heads that do not read the five usual levels."""
GENERATOR = torch.Generator().manual_seed(0)
LOGITS, MATRIX = torch.randn(2, 12, 4, generator=GENERATOR)
LABELS, SHARES = torch.arange(12) % 3, torch.rand(12, 4, generator=GENERATOR)
QUALITIES = SHARES * torch.eye(4)[LABELS]
INPUTS: dict[str, tuple[Tensor, Tensor]] = {
    "DecoupledDistillationFocalLossConfig": (LOGITS, MATRIX),
    "DiceLossConfig": (LOGITS, SHARES),
    "DistributionFocalLossConfig": (LOGITS, 2.9 * SHARES[:, 0]),
    "FineGrainedLocalizationLossConfig": (LOGITS, torch.stack([LABELS, SHARES[:, 0]], dim=1)),
    "GaussianFocalLossConfig": (LOGITS.sigmoid(), torch.where(QUALITIES > 0.5, 1.0, SHARES)),
    "MatchabilityAwareLossConfig": (LOGITS, QUALITIES.where(QUALITIES > 0, -1.0)),
    "MatchedVarifocalLossConfig": (LOGITS, QUALITIES.where(QUALITIES > 0, -1.0)),
    "QualityFocalLossConfig": (LOGITS, QUALITIES),
    # Without background, since its second term is of objects alone, and has their number as its divisor.
    "SeesawLossConfig": (torch.cat([LOGITS, MATRIX[:, :1]], dim=1), LABELS),
    "VarifocalLossConfig": (LOGITS, QUALITIES),
}
"""What losses read that are neither of boxes nor of logits against labels."""


def _points(priors: Tensor) -> Tensor:
    """(A, 4): centres with a stride."""
    return torch.cat([centres(priors), torch.full_like(priors[:, :2], 8.0)], dim=1)


def _by_predictions(
    *, points: bool, sigmoid: bool
) -> Callable[[Any], Callable[[Tensor, Targets], Assignment]]:
    """Assigners of priors by predicted boxes and scores."""

    def bound(config: Any) -> Callable[[Tensor, Targets], Assignment]:
        def assign(priors: Tensor, targets: Targets) -> Assignment:
            scores = priors[:, :3].sin()
            given = _points(priors) if points else priors
            return config.assign(given, priors + 2, scores.sigmoid() if sigmoid else scores, targets)

        return assign

    return bound


def _of_points(config: PointAssignerConfig) -> Callable[[Tensor, Targets], Assignment]:
    return lambda priors, targets: config.assign(
        centres(priors), priors.new_full((len(priors),), 8.0), targets
    )


def _uniform(config: UniformAssignerConfig) -> Callable[[Tensor, Targets], Assignment]:
    return lambda priors, targets: config.assign(priors, priors + 2, targets)


ASSIGN: dict[type[AssignerConfig], Callable[[Any], Callable[[Tensor, Targets], Assignment]]] = {
    DynamicSoftLabelAssignerConfig: _by_predictions(points=True, sigmoid=False),
    PointAssignerConfig: _of_points,
    SimOTAAssignerConfig: _by_predictions(points=True, sigmoid=True),
    TaskAlignedAssignerConfig: _by_predictions(points=False, sigmoid=True),
    UniformAssignerConfig: _uniform,
}
"""How assigners that go by more than boxes are called."""
EXCLUDED = {
    "CocoDatasetConfig": "reads files",
    "LVISV1DatasetConfig": "reads files",
    "VOCDatasetConfig": "reads files",
    "YOLODatasetConfig": "reads files",
    "HungarianAssignerConfig": "matches whole batches by cost, and gives pairs rather than an assignment",
    "RegionAssignerConfig": "goes by the order of priors: it paints regions onto the map of each level",
    "CondInstBboxHeadConfig": "is trained by `loss_and_instances`, which its mask head needs",
    "StageCascadeRPNHeadConfig": "reads the anchors of the stage before, which CascadeRPNHeadConfig gives it",
}
"""Components without a contract that holds them alone."""
SHIPPED = [
    component
    for component in components()
    if issubclass(component.cls, tuple(CHECKS)) and component.cls.__name__ not in EXCLUDED
]


def small(cls: type[Config]) -> Config:
    """A component with what surrounds it filled in, narrow and shallow where that is quicker."""
    name = cls.__name__
    config = GIVEN.get(name) or made(cls)
    assert config is not None
    if isinstance(config, NeckConfig) and name != "SimpleFeaturePyramidConfig":
        return evolve(config, in_channels=WIDTHS.get(name, (64,) * 4), in_strides=(4, 8, 16, 32))
    if isinstance(config, MlvlPointGeneratorConfig):
        return evolve(config, strides=(8, 16))
    if isinstance(config, DenseHeadConfig | RoIHeadConfig):
        strides = STRIDES.get(
            name, (8, 16, 32, 64, 128) if isinstance(config, DenseHeadConfig) else (4, 8, 16, 32)
        )
        narrowed = narrow(
            config,
            fc_out_channels=16,
            num_convs=1,
            stacked_convs=1,
            point_feat_channels=4,
            num_grids=(8, 6, 4, 3, 2),
        )
        classes = 1 if isinstance(config, ProposalHeadConfig) else 3
        return evolve(narrowed, num_classes=classes, in_channels=32, in_strides=strides)
    return config


@pytest.mark.parametrize("component", SHIPPED, ids=lambda component: component.cls.__name__)
def test_what_is_shipped_keeps_its_contract(component: Component) -> None:
    name = component.cls.__name__
    if name == "TimmBackboneConfig" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    config = small(component.cls)
    given: dict[str, Any] = {}
    if name in INPUTS:
        given["inputs"] = INPUTS[name]
    if component.cls in ASSIGN:
        given["assign"] = ASSIGN[component.cls](config)
    check_component(config, **given)


def test_what_is_excluded_exists() -> None:
    names = {component.cls.__name__ for component in components()}
    assert names >= EXCLUDED.keys() | GIVEN.keys() | INPUTS.keys()


@frozen(kw_only=True)
class OfOnePriorConfig(DeltaXYWHBBoxCoderConfig):
    """Decodes all by the first prior."""

    def decode(
        self,
        priors: Tensor,
        pred: Tensor,
        max_shape: tuple[int, int] | None = None,
        max_log_ratio: float = 1.0,
    ) -> Tensor:
        return super().decode(priors[:1], pred, max_shape, max_log_ratio)


@frozen(kw_only=True)
class CutGradientConfig(DeltaXYWHBBoxCoderConfig):
    def decode(
        self,
        priors: Tensor,
        pred: Tensor,
        max_shape: tuple[int, int] | None = None,
        max_log_ratio: float = 1.0,
    ) -> Tensor:
        return super().decode(priors, pred.detach(), max_shape, max_log_ratio)


@frozen(kw_only=True)
class CountsIgnoredConfig(AssignerConfig):
    def assign_anchors(
        self, priors: Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        del num_level_priors
        last = torch.full((len(priors),), len(targets) - 1)
        return Assignment(gt_indices=last, max_overlaps=torch.ones(len(priors)))


@frozen(kw_only=True)
class SwapsConfig(RandomSamplerConfig):
    """Gives the negatives as the positives' boxes."""

    def sample(
        self, assignment: Assignment, priors: Tensor, targets: Targets, **kwargs: object
    ) -> SamplingResult:
        del kwargs
        found = super().sample(assignment, priors, targets)
        return evolve(found, pos_priors=found.pos_priors.flip(0))


@frozen(kw_only=True)
class OtherStridesConfig(ResNetConfig):
    @property
    def feature_strides(self) -> tuple[int, ...]:
        return (2, 4, 8, 16)


@frozen(kw_only=True)
class CountsCallsConfig(ScheduleConfig):
    def decay(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        del step, steps_per_epoch, total_steps
        return float(torch.rand(()))


@frozen(kw_only=True)
class MeanOfNothingConfig(L1LossConfig):
    def build(self) -> Loss:
        return MeanOfNothing(self.resolved(), l1_loss)


class MeanOfNothing(Loss):
    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Any = None,
    ) -> Tensor:
        reduction = reduction_override or self.reduction
        loss = self.loss_weight * self.elementwise(pred, target)
        return reduce_loss(loss, weight, reduction, avg_factor)


@frozen(kw_only=True)
class OwnDivisorConfig(L1LossConfig):
    def build(self) -> Loss:
        return OwnDivisor(self.resolved(), l1_loss)


class OwnDivisor(Loss):
    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: Any = None,
    ) -> Tensor:
        del avg_factor
        return super().forward(pred, target, weight, None, reduction_override)


@frozen(kw_only=True)
class FlipsPixelsConfig(TransformConfig):
    def transform(self) -> Transform:
        return lambda fields: {**fields, "image": fields["image"].flip(2)}


@frozen(kw_only=True)
class OtherRandomConfig(TransformConfig):
    def transform(self) -> Transform:
        def dim(fields: Fields) -> Fields:
            return {**fields, "image": (fields["image"] * random.uniform(0.5, 1)).to(torch.uint8)}  # noqa: S311

        return dim


@frozen(kw_only=True)
class OverwritesConfig(TransformConfig):
    def transform(self) -> Transform:
        def dim(fields: Fields) -> Fields:
            fields["image"][:] //= 2
            return fields

        return dim


@frozen(kw_only=True)
class FirstImageConfig(RetinaHeadConfig):
    def build(self) -> RetinaHead:
        return FirstImage(self.resolved())


class FirstImage(RetinaHead):
    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        return super().loss(features, batch, [targets[0]] * len(targets))


@frozen(kw_only=True)
class NoObjectsNoLossConfig(RetinaHeadConfig):
    def build(self) -> RetinaHead:
        return NoObjectsNoLoss(self.resolved())


class NoObjectsNoLoss(RetinaHead):
    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        losses = super().loss(features, batch, targets)
        if any(len(image.not_ignored) for image in targets):
            return losses
        return {name: torch.zeros(()) for name in losses}


@frozen(kw_only=True)
class CountsFromOneConfig(StandardRoIHeadConfig):
    def build(self) -> StandardRoIHead:
        return CountsFromOne(self.resolved())


class CountsFromOne(StandardRoIHead):
    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        found = super().predict(features, proposals, batch)
        return [evolve(detections, labels=detections.labels + 1) for detections in found]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OfOnePriorConfig(), "has to give the boxes back"),
        (CutGradientConfig(), "has to pass a gradient to the deltas"),
        (CountsIgnoredConfig(), "objects that are not ignored"),
        (SwapsConfig(num=16, pos_fraction=0.5), "pos_priors is not that of pos_inds"),
        (OtherStridesConfig(depth=18), "feature_strides is"),
        (CountsCallsConfig(), "function of the step alone"),
        (MeanOfNothingConfig(), "of no elements, .* has to be 0, and is nan"),
        (OwnDivisorConfig(), "with avg_factor=5"),
        (FlipsPixelsConfig(), "objects are not where the masks are"),
        (OtherRandomConfig(), "same seed"),
        (OverwritesConfig(), "must not write into"),
        (small(FirstImageConfig), "two images swapped have to give the same sum of losses"),
        (small(NoObjectsNoLossConfig), "of an image without objects .* the losses have to pass a gradient"),
        (small(CountsFromOneConfig), "labels have to count the classes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_contract_is_said(config: Config, message: str) -> None:
    with pytest.raises(ContractError, match=f"^{type(config).__name__}: .*{message}"):
        check_component(config)


def test_a_kind_without_a_contract_is_named() -> None:
    from detcfg.boxes.nms import NMSConfig

    with pytest.raises(TypeError, match="no contract for NMSConfig"):
        check_component(NMSConfig())


def test_every_kind_of_check_has_a_shipped_component() -> None:
    assert {family for family in CHECKS if not any(issubclass(c.cls, family) for c in SHIPPED)} == set()
