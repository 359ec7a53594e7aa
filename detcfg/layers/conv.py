"""Kinds of convolution; MMDetection's `conv_cfg`."""

from __future__ import annotations

from abc import ABC, abstractmethod

from attrs import asdict, field, frozen
from torch import nn

from detcfg.config import Config


@frozen
class ConvSpec:
    """Channels and geometry of one convolution: `nn.Conv2d`'s arguments under their names.

    The module that needs a convolution writes it down, a `ConvConfig` reads it:
    `ConvSpec(64, 128, 3, stride=2, padding=1, bias=False)`.
    """

    in_channels: int
    """Channels of the input."""
    out_channels: int
    """Channels of the output."""
    kernel_size: int
    """Side of the square kernel, in taps."""
    stride: int = field(default=1, kw_only=True)
    """Input pixels from one output pixel to the next."""
    padding: int = field(default=0, kw_only=True)
    """Zeros added at each side, in input pixels."""
    dilation: int = field(default=1, kw_only=True)
    """Input pixels from one tap of the kernel to the next."""
    groups: int = field(default=1, kw_only=True)
    """Groups of channels that do not see each other; it divides `in_channels` and `out_channels`."""
    bias: bool = field(default=True, kw_only=True)
    """Whether a trained number is added to each output channel."""


@frozen(kw_only=True)
class ConvConfig(Config, ABC):
    """A kind of convolution, for any field called `conv_cfg`: the module that has the field says the geometry.

    To add a kind, subclass it with the kind's settings as fields, and build the layer from the spec:

        @frozen(kw_only=True)
        class ScaledConvConfig(ConvConfig):
            scale: float = 2.0

            def build_for(self, spec: ConvSpec) -> ScaledConv2d:
                return ScaledConv2d(spec, scale=self.scale)


        class ScaledConv2d(nn.Conv2d):
            def __init__(self, spec: ConvSpec, *, scale: float) -> None:
                super().__init__(**asdict(spec))
                self.scale = scale

    A kind that cannot do what a spec asks for (a bias, groups, a size of the kernel) raises `ConfigError`
    there, rather than leave it out.
    """

    @abstractmethod
    def build_for(self, spec: ConvSpec) -> nn.Module:
        """The layer, (B, in_channels, H, W) to (B, out_channels, H', W').

        H' = floor((H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1, and W' alike.
        """


@frozen(kw_only=True)
class Conv2dConfig(ConvConfig):
    """The ordinary convolution, which a `conv_cfg` of None means too."""

    def build_for(self, spec: ConvSpec) -> nn.Conv2d:
        return nn.Conv2d(**asdict(spec))


@frozen(kw_only=True)
class DeconvConfig(ConvConfig):
    """A transposed convolution, which enlarges by its stride; MMDetection's `deconv`.

    H' = (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + 1.
    """

    def build_for(self, spec: ConvSpec) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(**asdict(spec))


@frozen(kw_only=True)
class Conv1dConfig(ConvConfig):
    """A convolution of sequences: (B, in_channels, Q) to (B, out_channels, Q')."""

    def build_for(self, spec: ConvSpec) -> nn.Conv1d:
        return nn.Conv1d(**asdict(spec))


def build_conv(conv_cfg: ConvConfig | None, spec: ConvSpec) -> nn.Module:
    """The convolution that `conv_cfg` describes; an ordinary one for None."""
    return (conv_cfg or Conv2dConfig()).build_for(spec)
