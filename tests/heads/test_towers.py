"""Towers of dense heads: as short as a config lets them be."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import pytest
import torch
from attrs import evolve
from torch import nn
from torch.testing import assert_close

from detcfg.catalogue import components
from detcfg.config import ConfigError
from detcfg.config.types import field_types, matches
from detcfg.heads.anchor_free.rtmdet_head import RTMDetHeadConfig, RTMDetSepBNHeadConfig
from detcfg.heads.anchor_free.yolox_head import YOLOXHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.instance.solo_head import SOLOHeadConfig
from tests.support.dense import CLASSES, STRIDES, features

HEADS = [
    found.cls
    for found in components()
    if issubclass(found.cls, DenseHeadConfig)
    and "stacked_convs" in attrs.fields_dict(found.cls)
    and not inspect.isabstract(found.cls)
]


def shortest(cls: type[DenseHeadConfig]) -> DenseHeadConfig:
    """The head whose towers have as few layers as the field's type allows, wider than what comes in."""
    least = 0 if matches(0, field_types(cls)["stacked_convs"]) else 1
    changes: dict[str, Any] = {"stacked_convs": least, "feat_channels": 64}
    if "num_params" in attrs.fields_dict(cls):
        changes["num_params"] = 8
    return evolve(cls(), num_classes=CLASSES, in_channels=32, in_strides=STRIDES, **changes)


@torch.no_grad()
@pytest.mark.parametrize("cls", HEADS, ids=lambda cls: cls.__name__)
def test_a_head_predicts_with_the_shortest_towers_that_it_takes(cls: type[DenseHeadConfig]) -> None:
    head = shortest(cls).build().eval()

    head(features(1, in_channels=32))


def test_the_sweep_sees_every_head_with_towers() -> None:
    names = {cls.__name__ for cls in HEADS}

    assert {"ATSSHeadConfig", "PAAHeadConfig", "SOLOHeadConfig", "YOLOXHeadConfig"} < names
    assert len(names) >= 24


def test_a_head_of_solo_resizes_before_one_of_its_layers() -> None:
    head = SOLOHeadConfig(num_classes=3, in_channels=32, in_strides=STRIDES, cls_down_index=7)

    with pytest.raises(ConfigError, match=r"cls_down_index is .* stacked_convs is 7"):
        head.resolved()


@torch.no_grad()
@pytest.mark.parametrize("cls", [RTMDetHeadConfig, RTMDetSepBNHeadConfig, YOLOXHeadConfig])
@pytest.mark.parametrize("use_depthwise", [False, True])
def test_a_tower_without_activation_and_norm_is_linear_but_for_its_bias(
    cls: type[RTMDetHeadConfig | RTMDetSepBNHeadConfig | YOLOXHeadConfig], *, use_depthwise: bool
) -> None:
    changes: dict[str, Any] = {"share_conv": False} if cls is RTMDetSepBNHeadConfig else {}
    config = cls(in_channels=8, in_strides=(8,), feat_channels=8, act_cfg=None, norm_cfg=None, **changes)
    tower = evolve(config, use_depthwise=use_depthwise).tower()
    (tower,) = tower if isinstance(tower, nn.ModuleList) else (tower,)
    x, y = torch.randn(2, 1, 8, 5, 6).double()
    f = tower.double()

    assert_close(f(x + y) + f(0 * x), f(x) + f(y))
    assert any(parameter.dim() == 1 for parameter in f.parameters())  # no norm: a bias instead
