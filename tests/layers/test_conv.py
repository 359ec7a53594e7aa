"""Every kind of convolution is built from one spec of channels and geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from attrs import asdict, evolve, frozen
from torch import Tensor, nn

from detcfg.layers.conv import Conv1dConfig, Conv2dConfig, ConvConfig, ConvSpec, DeconvConfig, build_conv
from detcfg.layers.conv_aws import ConvAWSConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.conv_ws import ConvWSConfig
from detcfg.layers.deform_conv import DCNConfig, DCNv2Config
from detcfg.layers.normed_conv import NormedConv2dConfig
from detcfg.layers.sac import SACConfig

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = ConvSpec(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False)
KINDS = (
    Conv2dConfig(),
    ConvAWSConfig(),
    ConvWSConfig(),
    DCNConfig(),
    DCNv2Config(),
    NormedConv2dConfig(),
    SACConfig(),
)


def out_size(size: int, spec: ConvSpec) -> int:
    """The equation of `ConvConfig.build_for`."""
    return (size + 2 * spec.padding - spec.dilation * (spec.kernel_size - 1) - 1) // spec.stride + 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_every_kind_has_the_channels_and_the_geometry_of_its_spec(kind: ConvConfig) -> None:
    layer = kind.build_for(SPEC)

    assert layer(torch.randn(2, 4, 11, 8)).shape == (2, 6, out_size(11, SPEC), out_size(8, SPEC))
    assert layer.get_parameter("weight").shape == (6, 4 // 2, 3, 3)
    assert getattr(layer, "bias", None) is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not isinstance(kind, DCNConfig | SACConfig)])
def test_a_bias_is_there_where_the_spec_has_one(kind: ConvConfig) -> None:
    assert kind.build_for(evolve(SPEC, bias=True)).get_parameter("bias").shape == (6,)


def test_a_transposed_convolution_undoes_the_size_of_the_ordinary_one() -> None:
    spec = ConvSpec(4, 6, 4, stride=2, padding=1)
    assert out_size(14, spec) == 7
    assert DeconvConfig().build_for(spec)(torch.randn(1, 4, 7, 5)).shape == (1, 6, 14, 10)


def test_a_convolution_of_sequences_counts_along_them() -> None:
    spec = ConvSpec(4, 6, 3, padding=1)
    assert Conv1dConfig().build_for(spec)(torch.randn(2, 4, 9)).shape == (2, 6, 9)


def test_without_a_kind_it_is_the_ordinary_one() -> None:
    assert type(build_conv(None, SPEC)) is nn.Conv2d
    torch.manual_seed(0)
    chosen = build_conv(None, SPEC)
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False)
    assert torch.equal(plain.weight, chosen.get_parameter("weight"))


@frozen(kw_only=True)
class ScaledConvConfig(ConvConfig):
    """A kind as a user writes it: the example of `ConvConfig`."""

    scale: float = 2.0

    def build_for(self, spec: ConvSpec) -> ScaledConv2d:
        return ScaledConv2d(spec, scale=self.scale)


class ScaledConv2d(nn.Conv2d):
    """Times a number."""

    def __init__(self, spec: ConvSpec, *, scale: float) -> None:
        super().__init__(**asdict(spec))
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Conv2d's
        return self.scale * super().forward(input)


def test_a_users_kind_goes_wherever_there_is_a_conv_cfg() -> None:
    plain = ConvModule(3, 5, 3, stride=2, padding=1, act_cfg=None)
    scaled = ConvModule(3, 5, 3, stride=2, padding=1, act_cfg=None, conv_cfg=ScaledConvConfig(scale=3.0))
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 7, 7)

    torch.testing.assert_close(3 * plain(x), scaled(x))


@pytest.mark.parametrize("name", ["out_channels", "kernel_size"])
def test_a_spec_needs_its_channels_and_its_kernel(name: str) -> None:
    make: Callable[..., ConvSpec] = ConvSpec
    given = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}
    del given[name]
    with pytest.raises(TypeError, match=name):
        make(**given)
