"""DetectoRS: its convolutions, its backbone and its pyramid."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

from detcfg.backbones.detectors_resnet import DetectoRSResNetConfig
from detcfg.backbones.detectors_resnext import DetectoRSResNeXtConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.layers.conv import ConvSpec
from detcfg.layers.conv_aws import ConvAWSConfig
from detcfg.layers.sac import SACConfig, SAConv2d
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.rfp import RFPConfig
from tests.support import zoo

BACKBONE = DetectoRSResNetConfig(base_channels=8)
MODEL = FasterRCNNConfig(
    num_classes=2, backbone=evolve(BACKBONE, output_img=True), neck=RFPConfig(rfp_backbone=BACKBONE)
)
IMAGES = torch.randn(2, 3, 96, 128)


def test_weights_of_an_ordinary_convolution_keep_their_effect() -> None:
    plain = nn.Conv2d(4, 6, 3)
    standardised = ConvAWSConfig().build_for(ConvSpec(4, 6, 3))
    standardised.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 8, 8)

    torch.testing.assert_close(plain(x), standardised(x), atol=1e-5, rtol=1e-4)


def test_filters_have_the_mean_and_the_spread_that_were_loaded() -> None:
    conv = ConvAWSConfig().build_for(ConvSpec(4, 6, 3))
    conv.weight_gamma.fill_(2.0)
    conv.weight_beta.fill_(5.0)
    filters = conv.standardised(conv.weight).flatten(1)

    torch.testing.assert_close(torch.full((6,), 5.0), filters.mean(1))
    torch.testing.assert_close(torch.full((6,), 2.0), filters.std(1), atol=1e-2, rtol=0)
    again = ConvAWSConfig().build_for(ConvSpec(4, 6, 3))
    again.load_state_dict(conv.state_dict())
    assert torch.equal(conv.weight_gamma, again.weight_gamma)


@pytest.mark.parametrize("use_deform", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_switchable_convolution_starts_as_an_ordinary_one(use_deform: bool, stride: int) -> None:  # noqa: FBT001
    plain = nn.Conv2d(4, 6, 3, stride=stride, padding=1, bias=False)
    switchable = SACConfig(use_deform=use_deform).build_for(
        ConvSpec(4, 6, 3, stride=stride, padding=1, bias=False)
    )
    switchable.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 4, 9, 7)

    torch.testing.assert_close(plain(x), switchable(x), atol=1e-4, rtol=1e-4)


def test_the_switch_mixes_two_dilations() -> None:
    conv = SACConfig().build_for(ConvSpec(4, 6, 3, padding=1, bias=False))
    nn.init.constant_(next(p for p in conv.switch.parameters() if p.dim() == 1), 0.25)
    x, weight = torch.randn(2, 4, 9, 7), conv.standardised(conv.weight)
    small = nn.functional.conv2d(x, weight, padding=1)
    large = nn.functional.conv2d(x, weight, padding=3, dilation=3)

    torch.testing.assert_close(0.25 * small + 0.75 * large, conv(x))


def test_nothing_is_fed_back_at_first_so_a_look_is_the_first_ones() -> None:
    torch.manual_seed(0)
    plain = BACKBONE.build().eval()
    fed = evolve(BACKBONE, rfp_inplanes=16).build().eval()
    fed.load_state_dict(plain.state_dict(), strict=False)
    back = [torch.randn(2, 16, 96 // s, 128 // s) for s in (4, 8, 16, 32)]

    with torch.no_grad():
        for wanted, found in zip(plain(IMAGES), fed.rfp_forward(IMAGES, back), strict=True):
            torch.testing.assert_close(wanted, found)
        nn.init.constant_(fed.get_parameter("layer2.0.rfp_conv.weight"), 1.0)
        changed = fed.rfp_forward(IMAGES, back)
    assert torch.equal(changed[0], plain(IMAGES)[0])
    assert not torch.allclose(changed[1], plain(IMAGES)[1])


def test_a_resnext_has_mmdetections_parameters_and_its_switchable_convolutions_have_groups() -> None:
    """The figures are those of MMDetection 3.3.0's `DetectoRS_ResNeXt`."""
    config = DetectoRSResNeXtConfig(
        depth=50, groups=32, base_width=4, rfp_inplanes=64, output_img=True, conv_cfg=ConvAWSConfig()
    )
    with torch.device("meta"):
        plain = config.build()
        switchable = evolve(config, sac=SACConfig(), stage_with_sac=(False, True, True, True)).build()

    digest = "6d3030f4264a0aa952cabb8daf9cdfa66d04fb38705ffb3f860eef14a7b0b8ef"
    assert (len(plain.state_dict()), zoo.digest(plain)) == (430, digest)
    assert sum(p.numel() for p in plain.parameters()) == 23_212_864
    conv = switchable.get_submodule("layer2.0.conv2")
    assert isinstance(conv, SAConv2d)
    assert (conv.groups, tuple(conv.weight.shape)) == (32, (256, 8, 3, 3))


def test_the_pyramid_blends_both_looks() -> None:
    model = MODEL.build().eval()
    assert model.neck is not None
    with torch.no_grad():
        outs = model.neck(model.backbone(IMAGES))
    assert [(256, 24), (256, 12), (256, 6), (256, 3), (256, 2)] == [(o.shape[1], o.shape[2]) for o in outs]
    assert {f"neck.rfp_modules.0.layer{n}.0.rfp_conv.weight" for n in (2, 3, 4)} <= set(model.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": BACKBONE}, r"RFPConfig, which reads the images too, but backbone .* output_img=True"),
        ({"neck": FPNConfig()}, r"FPNConfig, which reads feature maps only, .* output_img=False"),
        ({"backbone": ResNetConfig(base_channels=8)}, "reads the images too"),
        (
            {"neck": RFPConfig()},
            r"rfp_backbone\.feature_channels is \(256, 512, 1024, 2048\), but in_channels",
        ),
        (
            {"neck": RFPConfig(rfp_backbone=evolve(BACKBONE, rfp_inplanes=99))},
            r"rfp_inplanes is 99, but aspp_out_channels=64",
        ),
        ({"neck": RFPConfig(rfp_backbone=BACKBONE, aspp_dilations=(1, 3))}, r"aspp_dilations is \(1, 3\)"),
    ],
)
def test_parts_that_do_not_fit_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(MODEL, **changes).resolved()
