"""ResNet (mmdet/models/backbones/resnet.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal, Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import StagedBackbone
from detcfg.backbones.residual import BasicBlock, BlockPlan, Bottleneck, ResidualBlock, ResidualConfig
from detcfg.config import ConfigError
from detcfg.layers.conv import ConvSpec, build_conv
from detcfg.layers.deform_conv import DeformConv2dPack
from detcfg.layers.fold import ConvSequential, in_a_row
from detcfg.layers.init import constant_init, kaiming_init

Depth = Literal[18, 34, 50, 101, 152, 200]

BLOCKS: Final[dict[int, tuple[int, ...]]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks of each stage by depth."""


@frozen(kw_only=True)
class ResNetConfig(ResidualConfig):
    """ResNet (He et al., 2015, https://arxiv.org/abs/1512.03385)."""

    depth: Depth = 50
    """Layers, which decide how many blocks each stage has."""

    def wired(self) -> Self:
        wired = super().wired()
        if self.expansion == 1 and (self.dcn is not None or self.plugins):
            raise ConfigError(
                f"depth is {self.depth}, whose basic blocks take neither dcn nor plugins. Use depth=50 or more."
            )
        return wired

    @property
    def expansion(self) -> int:
        return 1 if self.depth < 50 else 4

    @property
    def blocks(self) -> tuple[int, ...]:
        return BLOCKS[self.depth][: self.num_stages]

    def make_block(self, plan: BlockPlan) -> ResidualBlock:
        return Bottleneck(self, plan) if self.depth >= 50 else BasicBlock(self, plan)

    def build(self) -> ResNet:
        return ResNet(self.resolved())


@frozen(kw_only=True)
class ResNetV1dConfig(ResNetConfig):
    """The variant of the bag of tricks (He et al., 2018, https://arxiv.org/abs/1812.01187)."""

    deep_stem: bool = True
    """Whether the stem is three 3x3 convolutions instead of one 7x7."""
    avg_down: bool = True
    """Shortcuts average before their 1x1 convolution rather than stride in it."""


class ResNet(StagedBackbone):
    """A stem and up to four stages of residual blocks, `layer1` to `layer4`."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        self.norm_eval = config.norm_eval
        self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        self.make_stem(config)
        for stage in range(config.num_stages):
            blocks = [config.make_block(plan) for plan in config.block_plans(stage)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stage_names = tuple(f"layer{stage + 1}" for stage in range(config.num_stages))
        self._init_weights(config)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem_features(images)
        outs: list[Tensor] = []
        for index, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def stem_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, H / 4, W / 4)."""
        pooled: Tensor = self.maxpool(in_a_row(self._stem, images))
        return pooled

    def frozen_modules(self) -> list[nn.Module]:
        stages = self.stage_names[: max(self.frozen_stages, 0)]
        stem = self._stem if self.frozen_stages >= 0 else []
        return stem + [self.get_submodule(name) for name in stages]

    def make_stem(self, config: ResidualConfig) -> None:
        """Set `conv1` and its norm, or `stem`."""
        channels = config.stem_width
        self.stem_names: tuple[str, ...] = ("stem",)
        if not config.deep_stem:
            spec = ConvSpec(config.in_channels, channels, 7, stride=2, padding=3, bias=False)
            self.conv1 = build_conv(config.conv_cfg, spec)
            self.stem_names = ("conv1", f"{config.norm_cfg.abbr}1", "relu")
            self.add_module(self.stem_names[1], config.norm_cfg.build_for(channels))
            self.relu = nn.ReLU(inplace=True)
            return
        layers: list[nn.Module] = []
        widths = (config.in_channels, channels // 2, channels // 2, channels)
        for index, (before, after) in enumerate(pairwise(widths)):
            spec = ConvSpec(before, after, 3, stride=1 if index else 2, padding=1, bias=False)
            layers += [
                build_conv(config.conv_cfg, spec),
                config.norm_cfg.build_for(after),
                nn.ReLU(inplace=True),
            ]
        self.stem = ConvSequential(*layers)

    @property
    def _stem(self) -> list[nn.Module]:
        return [self.get_submodule(name) for name in self.stem_names]

    def _init_weights(self, config: ResidualConfig) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                kaiming_init(module)
        for module in self.modules():
            if isinstance(module, DeformConv2dPack):
                module.reset_offset()
            if isinstance(module, ResidualBlock) and config.zero_init_residual:
                constant_init(module.last_norm, 0)
