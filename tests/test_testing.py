"""`check_component` passes for what is shipped, and finds what breaks a contract."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.resnet import ResNetConfig
from detcfg.backbones.timm import TimmBackboneConfig
from detcfg.backbones.torchvision import TorchvisionBackboneConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.anchors.stretched import StretchedAnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.center_region import CenterRegionAssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.samplers.base import SamplingResult
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.catalogue import Component, components
from detcfg.config import Config
from detcfg.data.concat import ConcatDatasetConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.sequential import SequentialNeckConfig
from detcfg.necks.simple_fpn import SimpleFeaturePyramidConfig
from detcfg.recipe.schedules import ScheduleConfig
from detcfg.structures import Targets
from detcfg.testing import CHECKS, ContractError, check_component
from tests.support.config_fields import made

DEMO = DemoDatasetConfig(num_images=2, image_size=(64, 64))
GIVEN: dict[str, Config] = {
    type(config).__name__: config
    for config in (
        TimmBackboneConfig(name="resnet10t"),
        TorchvisionBackboneConfig(name="resnet18"),
        SequentialNeckConfig(necks=(FPNConfig(),)),
        SimpleFeaturePyramidConfig(in_channels=(64,), in_strides=(16,)),
        AnchorGeneratorConfig(scales=(8.0,), strides=(8, 16)),
        StretchedAnchorGeneratorConfig(sizes=((16,), (32,)), strides=(8, 16)),
        ApproxMaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4),
        CenterRegionAssignerConfig(pos_scale=0.2, neg_scale=0.5),
        MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4),
        DEMO,
        ConcatDatasetConfig(classes=DEMO.classes, datasets=(DEMO, DEMO)),
    )
}
"""Components that have no defaults to check."""
WIDTHS = {"RFPConfig": (256, 512, 1024, 2048)}
FILES = {"CocoDatasetConfig", "LVISV1DatasetConfig", "VOCDatasetConfig"}
"""Datasets that read what is not in the repository."""
BY_PREDICTIONS = {
    "DynamicSoftLabelAssignerConfig",
    "HungarianAssignerConfig",
    "PointAssignerConfig",
    "RegionAssignerConfig",
    "SimOTAAssignerConfig",
    "TaskAlignedAssignerConfig",
    "UniformAssignerConfig",
}
"""Assigners that have an `assign` of their own kind."""
SHIPPED = [
    component
    for component in components()
    if issubclass(component.cls, tuple(CHECKS)) and component.cls.__name__ not in FILES | BY_PREDICTIONS
]


@pytest.mark.parametrize("component", SHIPPED, ids=lambda component: component.cls.__name__)
def test_what_is_shipped_keeps_its_contract(component: Component) -> None:
    name = component.cls.__name__
    if name == "TimmBackboneConfig" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    config = GIVEN.get(name) or made(component.cls)
    assert config is not None
    if isinstance(config, NeckConfig) and name != "SimpleFeaturePyramidConfig":
        config = evolve(config, in_channels=WIDTHS.get(name, (64,) * 4), in_strides=(4, 8, 16, 32))
    if isinstance(config, MlvlPointGeneratorConfig):
        config = evolve(config, strides=(8, 16))
    check_component(config)


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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OfOnePriorConfig(), "has to give the boxes back"),
        (CutGradientConfig(), "has to pass a gradient to the deltas"),
        (CountsIgnoredConfig(), "objects that are not ignored"),
        (SwapsConfig(num=16, pos_fraction=0.5), "pos_priors is not that of pos_inds"),
        (OtherStridesConfig(depth=18), "feature_strides is"),
        (CountsCallsConfig(), "function of the step alone"),
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
