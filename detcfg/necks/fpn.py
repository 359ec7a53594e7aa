"""Feature pyramid network (mmdet/models/necks/fpn.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to `num_outs` maps (B, out_channels, H_j, W_j).
"""

from __future__ import annotations

from typing import Literal, Self

from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.config import ConfigError
from detcfg.config.ranges import IndexOrLast, NonNegativeInt, PositiveInt
from detcfg.layers.activation import ActivationConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import xavier_init
from detcfg.layers.norm import NormConfig
from detcfg.necks.base import Neck, NeckConfig, NumLevels

ExtraSource = Literal["on_input", "on_lateral", "on_output"]


@frozen(kw_only=True)
class PyramidConfig(NeckConfig):
    """What the pyramids share: the levels they take and the levels they give."""

    out_channels: PositiveInt = 256
    """Channels of each feature map that comes out."""
    num_outs: NumLevels = 5
    """Levels of the output; those beyond the backbone's are made by striding."""
    start_level: NonNegativeInt = 0
    """The first of the backbone's levels in use."""
    end_level: IndexOrLast = -1
    """The last of the backbone's levels in use; -1: all."""

    def wired(self) -> Self:
        wired = super().wired()
        given = len(self.in_channels)
        if not 0 <= self.start_level < given:
            raise ConfigError(
                f"start_level is {self.start_level}, but in_channels has {given} levels {self.in_channels}."
            )
        if self.end_level != -1 and not self.start_level <= self.end_level < given:
            raise ConfigError(
                f"end_level is {self.end_level}, but start_level is {self.start_level} "
                f"and in_channels has {given} levels {self.in_channels}."
            )
        if self.end_level not in (-1, given - 1) and self.num_outs != self.used_levels:
            raise ConfigError(
                f"num_outs is {self.num_outs}, but start_level={self.start_level} and "
                f"end_level={self.end_level} use {self.used_levels} levels. "
                "Extra levels need the backbone's last one: leave end_level at -1."
            )
        if self.num_outs < self.used_levels:
            raise ConfigError(
                f"num_outs is {self.num_outs}, but the neck uses {self.used_levels} of the levels "
                f"in_channels={self.in_channels}. Raise num_outs or start_level."
            )
        return wired

    @property
    def stop_level(self) -> int:
        """One past the last of the backbone's levels in use."""
        return len(self.in_channels) if self.end_level == -1 else self.end_level + 1

    @property
    def used_levels(self) -> int:
        """How many of the backbone's levels are in use."""
        return self.stop_level - self.start_level

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.out_channels,) * self.num_outs

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = self.in_strides[self.start_level : self.stop_level]
        extra = self.num_outs - len(strides)
        return strides + tuple(strides[-1] * 2 ** (i + 1) for i in range(extra))


@frozen(kw_only=True)
class FPNConfig(PyramidConfig):
    """Feature pyramid network (Lin et al., 2016, https://arxiv.org/abs/1612.03144)."""

    add_extra_convs: bool | ExtraSource = False
    """Whether strided convolutions rather than pooling make the extra levels, and what the first of
    them reads: the backbone's last map ("on_input", also True), its lateral or the last output."""
    relu_before_extra_convs: bool = False
    """Whether an activation stands before each extra convolution."""
    no_norm_on_lateral: bool = False
    """Whether the 1x1 convolutions go without norm."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = None
    """The activation after each convolution; None: none."""
    upsample_mode: Literal["nearest", "bilinear"] = "nearest"
    """Interpolation in the top-down path; MMDetection's `upsample_cfg`."""

    def build(self) -> FPN:
        return FPN(self.resolved())


class FPN(Neck):
    """`lateral_convs` bring the levels to one width, `fpn_convs` smooth the sums and add levels."""

    def __init__(self, config: FPNConfig) -> None:
        super().__init__()
        self.start_level = config.start_level
        self.stop_level = config.stop_level
        self.num_outs = config.num_outs
        self.upsample_mode = config.upsample_mode
        self.relu_before_extra_convs = config.relu_before_extra_convs
        self.extra_source: ExtraSource | Literal[False] = (
            "on_input" if config.add_extra_convs is True else config.add_extra_convs or False
        )
        out = config.out_channels
        used = config.in_channels[config.start_level : config.stop_level]
        self.lateral_convs = nn.ModuleList(
            self._conv(config, channels, 1, norm=not config.no_norm_on_lateral) for channels in used
        )
        self.fpn_convs = nn.ModuleList(self._conv(config, out, 3) for _ in used)
        if self.extra_source:
            for i in range(config.num_outs - len(used)):
                on_input = i == 0 and self.extra_source == "on_input"
                self.fpn_convs.append(self._conv(config, used[-1] if on_input else out, 3, stride=2))
        self._init_weights()

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        used = features[self.start_level : self.stop_level]
        laterals = self.merged([conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)])
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        return self.with_extra_levels(outs, laterals[-1], used[-1])

    def merged(self, laterals: list[Tensor]) -> list[Tensor]:
        """Add each level, enlarged, to the finer one below it."""
        merged = [laterals[-1]]
        for finer in reversed(laterals[:-1]):
            enlarged = F.interpolate(merged[0], size=finer.shape[2:], mode=self.upsample_mode)
            merged.insert(0, finer + enlarged)
        return merged

    def with_extra_levels(self, outs: list[Tensor], lateral: Tensor, source: Tensor) -> tuple[Tensor, ...]:
        """Add levels until there are `num_outs`."""
        if not self.extra_source:
            while len(outs) < self.num_outs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return tuple(outs)
        sources = {"on_input": source, "on_lateral": lateral, "on_output": outs[-1]}
        x = sources[self.extra_source]
        for i in range(len(outs), self.num_outs):
            outs.append(self.fpn_convs[i](x))
            x = F.relu(outs[-1]) if self.relu_before_extra_convs else outs[-1]
        return tuple(outs)

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                xavier_init(module, distribution="uniform")

    def _conv(
        self, config: FPNConfig, channels: int, kernel_size: int, *, stride: int = 1, norm: bool = True
    ) -> ConvModule:
        return ConvModule(
            channels,
            config.out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            conv_cfg=config.conv_cfg,
            norm_cfg=config.norm_cfg if norm else None,
            act_cfg=config.act_cfg,
        )
