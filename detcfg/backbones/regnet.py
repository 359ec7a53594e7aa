"""RegNet (mmdet/models/backbones/regnet.py)."""

from __future__ import annotations

from itertools import groupby
from math import log
from typing import Final, Literal, Self

from attrs import evolve, frozen
from torch import nn

from detcfg.backbones.residual import BlockPlan, ResidualConfig
from detcfg.backbones.resnet import ResNet
from detcfg.backbones.resnext import grouped_width
from detcfg.config import Config, ConfigError
from detcfg.config.ranges import NonEmpty, PositiveFloat, PositiveInt
from detcfg.layers.conv import ConvSpec, build_conv

DIVISOR: Final = 8
"""Widths are multiples of it."""


@frozen(kw_only=True)
class RegNetArchConfig(Config):
    """The line from which the widths of all blocks are read, by the names of the paper's equations 2 to 4."""

    w0: PositiveInt
    """Width of the first block."""
    wa: PositiveFloat
    """Growth of the width from one block to the next, before rounding."""
    wm: PositiveFloat
    """Widths are rounded to `w0` times a power of it."""
    depth: PositiveInt
    """Blocks in all."""
    group_w: PositiveInt
    """Channels of one group."""
    bot_mul: PositiveFloat = 1.0
    """Width of a block's middle by its width."""

    def stages(self) -> list[tuple[int, int]]:
        """(width, number of blocks) of each stage, before widths are fitted to the groups."""
        line = [self.w0 + self.wa * block for block in range(self.depth)]
        powers = [round(log(width / self.w0) / log(self.wm)) for width in line]
        widths = [round(self.w0 * self.wm**power / DIVISOR) * DIVISOR for power in powers]
        return [(width, len(list(same))) for width, same in groupby(widths)]


ARCHS: Final = {
    "regnetx_400mf": RegNetArchConfig(w0=24, wa=24.48, wm=2.54, group_w=16, depth=22),
    "regnetx_800mf": RegNetArchConfig(w0=56, wa=35.73, wm=2.28, group_w=16, depth=16),
    "regnetx_1.6gf": RegNetArchConfig(w0=80, wa=34.01, wm=2.25, group_w=24, depth=18),
    "regnetx_3.2gf": RegNetArchConfig(w0=88, wa=26.31, wm=2.25, group_w=48, depth=25),
    "regnetx_4.0gf": RegNetArchConfig(w0=96, wa=38.65, wm=2.43, group_w=40, depth=23),
    "regnetx_6.4gf": RegNetArchConfig(w0=184, wa=60.83, wm=2.07, group_w=56, depth=17),
    "regnetx_8.0gf": RegNetArchConfig(w0=80, wa=49.56, wm=2.88, group_w=120, depth=23),
    "regnetx_12gf": RegNetArchConfig(w0=168, wa=73.36, wm=2.37, group_w=112, depth=19),
}
"""The networks of the paper's table 5, by their floating-point operations."""

ArchName = Literal[
    "regnetx_400mf",
    "regnetx_800mf",
    "regnetx_1.6gf",
    "regnetx_3.2gf",
    "regnetx_4.0gf",
    "regnetx_6.4gf",
    "regnetx_8.0gf",
    "regnetx_12gf",
]


@frozen(kw_only=True)
class RegNetConfig(ResidualConfig):
    """RegNetX (Radosavovic et al., 2020, https://arxiv.org/abs/2003.13678)."""

    arch: ArchName | RegNetArchConfig = "regnetx_3.2gf"
    """The name of a published architecture, or its figures."""
    stem_channels: PositiveInt | None = 32
    """Channels out of the stem."""
    base_channels: PositiveInt = 32
    """Width of the stem where `stem_channels` is None."""
    strides: NonEmpty[PositiveInt] = (2, 2, 2, 2)
    """Stride of each stage's first block."""

    def wired(self) -> Self:
        if self.arch_config.w0 % DIVISOR or self.arch_config.wm <= 1:
            raise ConfigError(
                f"arch needs w0 to be a multiple of {DIVISOR} and wm above 1: {self.arch_config}"
            )
        if len(self._stages) != self.num_stages:
            raise ConfigError(
                f"num_stages is {self.num_stages}, but arch makes {len(self._stages)} stages (width, blocks): "
                f"{self._stages}."
            )
        return super().wired()

    @property
    def arch_config(self) -> RegNetArchConfig:
        """The architecture, looked up if it is a name."""
        return ARCHS[self.arch] if isinstance(self.arch, str) else self.arch

    @property
    def _stages(self) -> list[tuple[int, int]]:
        return self.arch_config.stages()

    @property
    def expansion(self) -> int:
        return 1

    @property
    def blocks(self) -> tuple[int, ...]:
        return tuple(blocks for _, blocks in self._stages)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        return tuple(self._fitted(width)[0] for width, _ in self._stages)

    @property
    def stem_stride(self) -> int:
        return 2

    def block_plans(self, stage: int) -> list[BlockPlan]:
        width, group_width = self._fitted(self._stages[stage][0])
        groups = round(width * self.arch_config.bot_mul) // group_width
        middle = grouped_width(width, groups, group_width, width)
        return [evolve(plan, mid_channels=middle, groups=groups) for plan in super().block_plans(stage)]

    def _fitted(self, width: int) -> tuple[int, int]:
        """Width and group width such that groups divide the middle of a block."""
        ratio = self.arch_config.bot_mul
        middle = int(width * ratio)
        group_width = min(self.arch_config.group_w, middle)
        return int(round(middle / group_width) * group_width / ratio), group_width

    def build(self) -> RegNet:
        return RegNet(self.resolved())


class RegNet(ResNet):
    """A 3x3 convolution and four stages of bottlenecks that do not widen."""

    def make_stem(self, config: ResidualConfig) -> None:
        spec = ConvSpec(config.in_channels, config.stem_width, 3, stride=2, padding=1, bias=False)
        self.conv1 = build_conv(config.conv_cfg, spec)
        self.stem_names = ("conv1", f"{config.norm_cfg.abbr}1", "relu")
        self.add_module(self.stem_names[1], config.norm_cfg.build_for(config.stem_width))
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()  # its first stage strides instead
