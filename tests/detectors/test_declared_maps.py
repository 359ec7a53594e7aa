"""What a backbone and a neck declare of their maps is held against those that they have."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.structures import Targets
from tests.support import tiny

TARGETS = [Targets(boxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))]
IMAGES = [torch.zeros(3, 128, 128, dtype=torch.uint8)]


@frozen(kw_only=True)
class FinerResNetConfig(ResNetConfig):
    """Declares half the strides that it has."""

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(stride // 2 for stride in super().feature_strides)


@frozen(kw_only=True)
class ShorterResNetConfig(ResNetConfig):
    """Declares three of its four maps."""

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return super().feature_strides[:3]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return super().feature_channels[:3]


@frozen(kw_only=True)
class WiderFPNConfig(FPNConfig):
    """Declares twice the channels that it has."""

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(2 * width for width in super().feature_channels)


def model(backbone: BackboneConfig | None = None, neck: NeckConfig | None = None) -> tiny.Model:
    given = tiny.Model()
    backbone = backbone or given.backbone
    return evolve(given, num_classes=3, backbone=backbone, neck=neck or given.neck)


def resnet(cls: type[ResNetConfig]) -> ResNetConfig:
    return cls(depth=18, base_channels=8, norm_eval=False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            model(resnet(FinerResNetConfig)),
            "backbone is FinerResNetConfig: feature_strides is .* a stride of about 4x4",
        ),
        (
            model(resnet(ShorterResNetConfig)),
            "backbone is ShorterResNetConfig: it declares 3 maps .*, and gives 4",
        ),
        (
            model(neck=WiderFPNConfig(out_channels=8)),
            "neck is WiderFPNConfig: feature_channels .* has 8 channels",
        ),
    ],
    ids=["strides", "number", "channels"],
)
def test_the_first_batch_refuses_maps_that_are_not_as_declared(config: tiny.Model, message: str) -> None:
    detector = config.build().train()
    with pytest.raises(ConfigError, match=rf"test_declared_maps.py:\d+: {message}"):
        detector.loss(IMAGES, TARGETS)


def test_only_the_first_batch_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = model().build().train()
    detector.loss(IMAGES, TARGETS)
    monkeypatch.setattr("detcfg.detectors.declared_maps.difference", None)
    assert detector.loss(IMAGES, TARGETS)
