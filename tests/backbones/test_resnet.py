"""ResNet is torchvision's and MMDetection's network under the names that both give it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from attrs import evolve
from torch import nn

from detcfg.backbones.resnet import Depth, ResNet, ResNetConfig
from detcfg.config import ConfigError
from detcfg.layers.conv_ws import ConvWSConfig
from detcfg.layers.deform_conv import DCNConfig, DCNv2Config
from detcfg.layers.norm import BNConfig, GNConfig


def small(**changes: Any) -> ResNetConfig:
    return evolve(ResNetConfig(depth=50, base_channels=8), **changes)


def torchvision_resnet(depth: int) -> nn.Module:
    from torchvision import models

    model: nn.Module = models.get_model(f"resnet{depth}")
    return model


@pytest.mark.parametrize("depth", [18, 50])
def test_weights_of_torchvision_load_as_they_are_and_give_the_same_maps(depth: Depth) -> None:
    torch.manual_seed(0)
    theirs = torchvision_resnet(depth).double().eval()
    tensors = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours = ResNetConfig(depth=depth).build().double().eval()
    ours.load_state_dict(tensors, strict=True)

    x = torch.randn(1, 3, 65, 70, dtype=torch.float64)
    expected = x
    for name in ("conv1", "bn1", "relu", "maxpool"):
        expected = theirs.get_submodule(name)(expected)
    for index, features in enumerate(ours(x)):
        expected = theirs.get_submodule(f"layer{index + 1}")(expected)
        torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("depth", get_args(Depth))
def test_channels_and_strides_are_known_before_there_are_weights(depth: Depth) -> None:
    config = ResNetConfig(depth=depth, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(1, 3))
    with torch.device("meta"):
        features = config.build()(torch.empty(1, 3, 64, 128))

    assert tuple(f.shape[1] for f in features) == config.feature_channels
    assert tuple(64 // f.shape[2] for f in features) == config.feature_strides


def frozen(model: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(
    ("stages", "names"),
    [(-1, set()), (0, {"conv1", "bn1"}), (2, {"conv1", "bn1", "layer1", "layer2"})],
)
def test_frozen_stages_train_nothing_and_keep_their_statistics(stages: int, names: set[str]) -> None:
    model = small(frozen_stages=stages, norm_eval=False).build()
    model.eval()
    model.train()

    assert frozen(model) == names
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (name.split(".")[0] not in names)


def test_norm_eval_holds_the_statistics_but_trains_the_scales() -> None:
    model = small(norm_eval=True).build().train()

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)


def test_a_norm_that_is_not_to_be_trained_is_not() -> None:
    model = small(norm_cfg=BNConfig(requires_grad=False)).build()
    assert all(("bn" in name or "downsample.1" in name) for name in untrained(model))


def untrained(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if not p.requires_grad]


def test_the_style_says_which_convolution_strides() -> None:
    strides = {
        style: (model.layer2[0].conv1.stride, model.layer2[0].conv2.stride)  # type: ignore[index,union-attr]
        for style, model in (("pytorch", small().build()), ("caffe", small(style="caffe").build()))
    }
    assert strides == {"pytorch": ((1, 1), (2, 2)), "caffe": ((2, 2), (1, 1))}


def test_blocks_start_as_the_identity() -> None:
    model = ResNetConfig(depth=18, base_channels=4).build().eval()
    block = model.get_submodule("layer1.1")
    x = torch.rand(1, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_recomputing_activations_changes_no_gradient() -> None:
    torch.manual_seed(0)
    plain = small(zero_init_residual=False, out_indices=(3,)).build()
    recomputing = small(zero_init_residual=False, out_indices=(3,), with_cp=True).build()
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)

    for model in (plain, recomputing):
        model(x)[0].square().mean().backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("dcn", [DCNConfig(), DCNv2Config(deform_groups=2)])
def test_a_deformable_convolution_starts_as_an_ordinary_one(dcn: DCNConfig | DCNv2Config) -> None:
    model = small(dcn=dcn, stage_with_dcn=(False, True, True, True)).build()
    names = {name for name in model.state_dict() if "conv_offset" in name}

    assert all(name.endswith(("conv2.conv_offset.weight", "conv2.conv_offset.bias")) for name in names)
    assert {name.split(".")[0] for name in names} == {"layer2", "layer3", "layer4"}
    assert not any(model.state_dict()[name].any() for name in names)


def test_other_norms_and_convolutions_go_everywhere_under_their_names() -> None:
    model = small(conv_cfg=ConvWSConfig(), norm_cfg=GNConfig(num_groups=2)).build()
    names = model.state_dict()

    assert {"gn1.weight", "layer1.0.gn3.weight", "layer1.0.downsample.1.weight"} <= names.keys()
    assert not any("bn" in name for name in names)
    assert len(model(torch.rand(1, 3, 32, 32))) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_indices": (0, 4)}, r"out_indices is \(0, 4\), but num_stages is 4"),
        ({"num_stages": 3, "out_indices": (2,)}, r"strides has 4 values .* but num_stages is 3"),
        ({"frozen_stages": 5}, "frozen_stages is 5, but num_stages is 4"),
        ({"depth": 18, "dcn": DCNConfig()}, "depth is 18, whose basic blocks take neither dcn"),
        ({"dcn": DCNConfig(), "conv_cfg": ConvWSConfig()}, "dcn is DCNConfig and conv_cfg is ConvWSConfig"),
        ({"depth": 51}, "must be one of 18, 34, 50, 101, 152, 200"),
    ],
)
def test_values_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**changes).resolved()


def test_the_deep_stem_and_the_averaging_shortcut_keep_every_size() -> None:
    config = small(deep_stem=True, avg_down=True, stem_channels=16)
    model = config.build()

    assert isinstance(model, ResNet)
    assert "stem.0.weight" in model.state_dict()
    assert [f.shape[2:] for f in model(torch.rand(1, 3, 66, 70))] == [
        f.shape[2:] for f in small().build()(torch.rand(1, 3, 66, 70))
    ]
