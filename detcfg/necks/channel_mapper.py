"""Maps of one width, and coarser ones below them (mmdet/models/necks/channel_mapper.py).

Shapes: (B, in_channels[i], H_i, W_i) to (B, out_channels, H_i, W_i), then maps of half the height and width each.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import OddInt, PositiveInt
from detcfg.layers.activation import ActivationConfig, ReLUConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import xavier_init
from detcfg.layers.norm import NormConfig
from detcfg.necks.base import Neck, NeckConfig, NumLevels


@frozen(kw_only=True)
class ChannelMapperConfig(NeckConfig):
    """A convolution a map, as the DETR family has before its transformers."""

    out_channels: PositiveInt = 256
    """Channels of each feature map that comes out."""
    kernel_size: OddInt = 3
    """Side of the square kernels, but of those of the additional maps, which is 3."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: none."""
    act_cfg: ActivationConfig | None = ReLUConfig()
    """The activation; None: none."""
    num_outs: NumLevels | None = None
    """Maps that come out, at least as many as come in; None: as many."""

    def wired(self) -> Self:
        if self.num_outs is not None and not is_unset(self.in_channels):
            given = len(self.in_channels)
            if self.num_outs < given:
                raise ConfigError(
                    f"num_outs is {self.num_outs}, and {given} maps come in, all of which go out. "
                    f"Give at least {given}, or fewer maps by the backbone's out_indices."
                )
        return super().wired()

    @property
    def _additional(self) -> int:
        return 0 if self.num_outs is None else self.num_outs - len(self.in_channels)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * (len(self.in_channels) + self._additional)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        last = self.in_strides[-1]
        return (*self.in_strides, *(last * 2 ** (i + 1) for i in range(self._additional)))

    def build(self) -> ChannelMapper:
        return ChannelMapper(self.resolved())


class ChannelMapper(Neck):
    """`convs` of the maps, and `extra_convs` of stride 2: of the last map that comes in, then of one another."""

    def __init__(self, config: ChannelMapperConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            _conv(config, channels, config.kernel_size, stride=1) for channels in config.in_channels
        )
        additional = len(config.feature_channels) - len(config.in_channels)
        widths = [config.in_channels[-1]] + [config.out_channels] * (additional - 1)
        self.extra_convs = (
            nn.ModuleList(_conv(config, channels, 3, stride=2) for channels in widths) if additional else None
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                xavier_init(module, distribution="uniform")

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        maps = [conv(x) for conv, x in zip(self.convs, features, strict=True)]
        x = features[-1]
        for conv in self.extra_convs or ():
            x = conv(x)
            maps.append(x)
        return tuple(maps)


def _conv(config: ChannelMapperConfig, in_channels: int, kernel_size: int, *, stride: int) -> ConvModule:
    return ConvModule(
        in_channels,
        config.out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        conv_cfg=config.conv_cfg,
        norm_cfg=config.norm_cfg,
        act_cfg=config.act_cfg,
    )
