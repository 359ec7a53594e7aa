"""Models of torchvision and timm are backbones whose shapes are known before they have weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.pretrained import load_pretrained
from detcfg.backbones.timm import TimmBackboneConfig
from detcfg.backbones.torchvision import TorchvisionBackboneConfig
from detcfg.config import ConfigError
from detcfg.experiments import faster_rcnn

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

TORCHVISION = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "swin_t",
    "vgg11_bn",
]
TIMM = [
    "convnext_atto",
    "efficientnet_b0",
    "hrnet_w18_small",
    "resnet18",
    "swin_tiny_patch4_window7_224",
    "pvt_v2_b0",
]


def check_shapes(config: BackboneConfig) -> None:
    model = config.build().eval()
    with torch.inference_mode():
        features = model(torch.rand(1, 3, 128, 192))

    assert tuple(f.shape[1] for f in features) == config.feature_channels
    for feature, stride in zip(features, config.feature_strides, strict=True):
        assert all(abs(f - s / stride) <= 2 for f, s in zip(feature.shape[2:], (128, 192), strict=True))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_channels_and_strides_are_known_before_there_are_weights(name: str) -> None:
    check_shapes(TorchvisionBackboneConfig(name=name))


@needs_timm
@pytest.mark.parametrize("name", TIMM)
def test_timms_channels_and_strides_are_known_before_there_are_weights(name: str) -> None:
    check_shapes(TimmBackboneConfig(name=name))


def test_maps_are_the_outputs_of_the_last_block_at_each_stride() -> None:
    config = TorchvisionBackboneConfig(name="resnet18")
    model = config.build().eval()
    x = torch.rand(1, 3, 64, 96)
    body = model.body

    expected = body.get_submodule("maxpool")(body.get_submodule("bn1")(body.get_submodule("conv1")(x)).relu())
    assert config.feature_channels == (64, 128, 256, 512)
    torch.testing.assert_close(model(x)[0].shape, expected.shape)


def test_nodes_may_be_named() -> None:
    config = TorchvisionBackboneConfig(
        name="mobilenet_v2", return_nodes=("features.6.add", "features.13.add")
    )
    assert config.feature_channels == (32, 96)
    assert config.feature_strides == (8, 16)
    check_shapes(config)


@pytest.mark.parametrize(
    "config",
    [
        TorchvisionBackboneConfig(name="convnext_tiny", frozen_stages=1),
        TorchvisionBackboneConfig(name="resnet18", frozen_stages=1),
        pytest.param(TimmBackboneConfig(name="resnet18", frozen_stages=1), marks=needs_timm),
        pytest.param(TimmBackboneConfig(name="convnext_atto", frozen_stages=1), marks=needs_timm),
    ],
    ids=lambda config: f"{type(config).__name__}-{config.name}",
)
def test_frozen_stages_train_nothing_that_their_maps_depend_on(config: BackboneConfig) -> None:
    model = config.build().train()
    features = model(torch.rand(2, 3, 64, 64))

    assert [feature.requires_grad for feature in features] == [False, True, True, True]
    sum(f.sum() for f in features).backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("norm_eval", [True, False])
def test_norm_eval_holds_the_statistics(*, norm_eval: bool) -> None:
    model = TorchvisionBackboneConfig(name="resnet18", norm_eval=norm_eval).build().train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.training != norm_eval for norm in norms)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_torchvisions_files_load_whole(tmp_path: Path, name: str) -> None:
    from torchvision import models

    path = tmp_path / "weights.pth"
    torch.save(models.get_model(name).state_dict(), path)
    config = TorchvisionBackboneConfig(name=name, pretrained=str(path))
    report = load_pretrained(config.build(), config)

    assert report is not None
    assert not report.missing
    assert not report.mismatched


@needs_timm
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_b0"])
def test_timms_files_load_whole(tmp_path: Path, name: str) -> None:
    import timm

    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(name, pretrained=False).state_dict(), path)
    config = TimmBackboneConfig(name=name, pretrained=str(path))
    report = load_pretrained(config.build(), config)

    assert report is not None
    assert not report.missing
    assert not report.mismatched


def test_the_neck_of_a_detector_takes_the_channels() -> None:
    model = evolve(
        faster_rcnn.Model(), backbone=TorchvisionBackboneConfig(name="efficientnet_b0"), num_classes=3
    )
    neck: Any = model.resolved().neck
    assert neck.in_channels == (24, 40, 112, 1280)
    assert neck.in_strides == (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TorchvisionBackboneConfig(name="resnet81"), "name is 'resnet81'.* Did you mean 'resnet18'"),
        (TorchvisionBackboneConfig(name="vit_b_16"), "'vit_b_16', which does not take images of any size"),
        (TorchvisionBackboneConfig(name="resnet18", return_nodes=("layer9",)), "return_nodes has 'layer9'"),
        (
            TorchvisionBackboneConfig(name="resnet18", frozen_stages=5),
            "frozen_stages is 5, but there are 4 maps",
        ),
        pytest.param(TimmBackboneConfig(name="resnet81"), "no model of timm. Did you mean", marks=needs_timm),
        pytest.param(
            TimmBackboneConfig(name="resnet18", out_indices=(7,)), "has maps 0 to 4", marks=needs_timm
        ),
    ],
)
def test_what_does_not_exist_is_named(config: BackboneConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.resolved()
