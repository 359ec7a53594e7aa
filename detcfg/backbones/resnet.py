"""ResNet (mmdet/models/backbones/resnet.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Final, Literal, Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.config import ConfigError
from detcfg.layers.checkpoint import recomputed
from detcfg.layers.conv import ConvConfig, build_conv
from detcfg.layers.deform_conv import DeformConv2dPack, DeformConvConfig
from detcfg.layers.fold import conv_norm
from detcfg.layers.init import constant_init, kaiming_init
from detcfg.layers.norm import BNConfig, NormConfig
from detcfg.layers.plugin import PluginConfig, PluginPosition

Depth = Literal[18, 34, 50, 101, 152]

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
class ResNetConfig(BackboneConfig):
    """ResNet (He et al., 2015, https://arxiv.org/abs/1512.03385)."""

    depth: Depth = 50
    in_channels: int = 3
    stem_channels: int | None = None
    """Channels of the stem; None: `base_channels`."""
    base_channels: int = 64
    """Width of the first stage's blocks; each stage doubles it."""
    num_stages: int = 4
    strides: tuple[int, ...] = (1, 2, 2, 2)
    """Stride of each stage's first block."""
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    """Dilation of each stage's 3x3 convolutions."""
    out_indices: tuple[int, ...] = (0, 1, 2, 3)
    """The stages whose output is given, from 0."""
    style: Literal["pytorch", "caffe"] = "pytorch"
    """Whether the 3x3 ("pytorch") or the first 1x1 ("caffe") convolution of a block has the stride."""
    deep_stem: bool = False
    """Three 3x3 convolutions in place of one 7x7."""
    avg_down: bool = False
    """Shortcuts average before their 1x1 convolution rather than stride in it."""
    frozen_stages: int = -1
    """Train nothing up to this stage: 0 freezes the stem, 1 also the first stage; -1: nothing."""
    conv_cfg: ConvConfig | None = None
    norm_cfg: NormConfig = BNConfig()
    norm_eval: bool = True
    """Batch norms use their running statistics in training too."""
    dcn: DeformConvConfig | None = None
    """Takes the place of the 3x3 convolutions in the stages of `stage_with_dcn`."""
    stage_with_dcn: tuple[bool, ...] = (False, False, False, False)
    plugins: tuple[PluginConfig, ...] = ()
    with_cp: bool = False
    """Compute activations twice rather than keep them: less memory, more time."""
    zero_init_residual: bool = True
    """Blocks start as the identity."""

    def wired(self) -> Self:
        wired = super().wired()
        wired.check_stages()
        if self._expansion == 1 and (self.dcn is not None or self.plugins):
            raise ConfigError(
                f"depth is {self.depth}, whose basic blocks take neither dcn nor plugins. Use depth=50 or more."
            )
        if self.dcn is not None and self.conv_cfg is not None:
            raise ConfigError(
                f"dcn is {type(self.dcn).__name__} and conv_cfg is {type(self.conv_cfg).__name__}, "
                "but a convolution is of one kind. Leave one of them out."
            )
        return wired

    def check_stages(self) -> None:
        """Refuse values that do not go with `num_stages`."""
        if not 1 <= self.num_stages <= 4:
            raise ConfigError(f"num_stages is {self.num_stages}; a ResNet has 1 to 4 stages.")
        lengths = {"strides": self.strides, "dilations": self.dilations}
        if self.dcn is not None:
            lengths["stage_with_dcn"] = self.stage_with_dcn
        for plugin in self.plugins:
            if plugin.stages is not None:
                lengths["plugins.stages"] = plugin.stages
        for name, values in lengths.items():
            if len(values) != self.num_stages:
                raise ConfigError(
                    f"{name} has {len(values)} values {values}, but num_stages is {self.num_stages}. "
                    "Give one value a stage."
                )
        if not self.out_indices or not all(0 <= i < self.num_stages for i in self.out_indices):
            raise ConfigError(
                f"out_indices is {self.out_indices}, but num_stages is {self.num_stages}: "
                f"name stages from 0 to {self.num_stages - 1}."
            )
        if not -1 <= self.frozen_stages <= self.num_stages:
            raise ConfigError(
                f"frozen_stages is {self.frozen_stages}, but num_stages is {self.num_stages}: "
                f"give -1 to {self.num_stages}."
            )

    @property
    def _expansion(self) -> int:
        """Channels out of a block by its width."""
        return 1 if self.depth < 50 else 4

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        return BLOCKS[self.depth][: self.num_stages]

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Width of each stage's blocks."""
        return tuple(self.base_channels * 2**stage for stage in range(self.num_stages))

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels out of each stage."""
        return tuple(width * self._expansion for width in self.stage_widths)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(c for i, c in enumerate(self.stage_channels) if i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = [4 * prod(self.strides[: i + 1]) for i in range(self.num_stages)]
        return tuple(s for i, s in enumerate(strides) if i in self.out_indices)

    def block_plans(self, stage: int) -> list[BlockPlan]:
        """The geometry of each block of a stage."""
        stem = self.base_channels if self.stem_channels is None else self.stem_channels
        before, after = (stem, *self.stage_channels)[stage : stage + 2]
        return [
            BlockPlan(
                stage=stage,
                in_channels=after if index else before,
                mid_channels=self.stage_widths[stage],
                out_channels=after,
                stride=1 if index else self.strides[stage],
                dilation=self.dilations[stage],
            )
            for index in range(self.blocks[stage])
        ]

    def build(self) -> ResNet:
        return ResNet(self.resolved())


@frozen(kw_only=True)
class BlockPlan:
    """The geometry of one residual block."""

    stage: int
    in_channels: int
    mid_channels: int
    """Channels of the 3x3 convolution."""
    out_channels: int
    stride: int
    dilation: int
    groups: int = 1


class ResidualBlock(nn.Module):
    """`relu(residual(x) + shortcut(x))`: a subclass says what its residual is."""

    def __init__(self, config: ResNetConfig, plan: BlockPlan) -> None:
        super().__init__()
        self.with_cp = config.with_cp
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(config, plan)
        self._norm_name = config.norm_cfg.abbr

    def add_norm(self, config: ResNetConfig, number: int, channels: int) -> None:
        """Name a norm as MMDetection does: `bn1`, `gn2`, …"""
        self.add_module(f"{self._norm_name}{number}", config.norm_cfg.build_for(channels))

    def norm(self, number: int) -> nn.Module:
        """The norm after the convolution of this number, from 1."""
        return self.get_submodule(f"{self._norm_name}{number}")

    @property
    def last_norm(self) -> nn.Module:
        """The norm that ends the residual."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        total = recomputed(self._sum, x) if self.with_cp and x.requires_grad else self._sum(x)
        activated: Tensor = self.relu(total)
        return activated

    def _sum(self, x: Tensor) -> Tensor:
        residual = self.residual(x)
        return residual + (x if self.downsample is None else self.downsample(x))


def _shortcut(config: ResNetConfig, plan: BlockPlan) -> nn.Sequential | None:
    """A 1x1 convolution where the block changes the shape."""
    if plan.stride == 1 and plan.in_channels == plan.out_channels:
        return None
    layers: list[nn.Module] = []
    if config.avg_down:
        layers.append(nn.AvgPool2d(plan.stride, plan.stride, ceil_mode=True, count_include_pad=False))
    layers += [
        build_conv(
            config.conv_cfg,
            plan.in_channels,
            plan.out_channels,
            1,
            stride=1 if config.avg_down else plan.stride,
            bias=False,
        ),
        config.norm_cfg.build_for(plan.out_channels),
    ]
    return nn.Sequential(*layers)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions."""

    def __init__(self, config: ResNetConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        self.conv1 = build_conv(
            config.conv_cfg,
            plan.in_channels,
            plan.mid_channels,
            3,
            stride=plan.stride,
            padding=plan.dilation,
            dilation=plan.dilation,
            bias=False,
        )
        self.add_norm(config, 1, plan.mid_channels)
        self.conv2 = build_conv(
            config.conv_cfg, plan.mid_channels, plan.out_channels, 3, padding=1, bias=False
        )
        self.add_norm(config, 2, plan.out_channels)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm(2)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(conv_norm(self.conv1, self.norm(1), x))
        return conv_norm(self.conv2, self.norm(2), x)


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions, with plugins after each."""

    def __init__(self, config: ResNetConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        caffe = config.style == "caffe"
        self.conv1 = build_conv(
            config.conv_cfg,
            plan.in_channels,
            plan.mid_channels,
            1,
            stride=plan.stride if caffe else 1,
            bias=False,
        )
        self.add_norm(config, 1, plan.mid_channels)
        self.make_conv2(config, plan, stride=1 if caffe else plan.stride)
        self.conv3 = build_conv(config.conv_cfg, plan.mid_channels, plan.out_channels, 1, bias=False)
        self.add_norm(config, 3, plan.out_channels)
        self._plugins: dict[PluginPosition, list[str]] = {}
        for plugin in config.plugins:
            if plugin.in_stage(plan.stage):
                last = plugin.position == "after_conv3"
                self._add_plugin(plugin, plan.out_channels if last else plan.mid_channels)

    def make_conv2(self, config: ResNetConfig, plan: BlockPlan, stride: int) -> None:
        """Set `conv2` and its norm."""
        deformable = config.dcn is not None and config.stage_with_dcn[plan.stage]
        self.conv2 = build_conv(
            config.dcn if deformable else config.conv_cfg,
            plan.mid_channels,
            plan.mid_channels,
            3,
            stride=stride,
            padding=plan.dilation,
            dilation=plan.dilation,
            groups=plan.groups,
            bias=False,
        )
        self.add_norm(config, 2, plan.mid_channels)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm(3)

    def middle(self, x: Tensor) -> Tensor:
        """The 3x3 convolution with its norm and activation."""
        out: Tensor = self.relu(conv_norm(self.conv2, self.norm(2), x))
        return out

    def residual(self, x: Tensor) -> Tensor:
        x = self._plugged("after_conv1", self.relu(conv_norm(self.conv1, self.norm(1), x)))
        x = self._plugged("after_conv2", self.middle(x))
        return self._plugged("after_conv3", conv_norm(self.conv3, self.norm(3), x))

    def _add_plugin(self, plugin: PluginConfig, channels: int) -> None:
        if hasattr(self, plugin.name):
            raise ConfigError(f"plugins: two are named {plugin.name!r}. Give one of them a postfix.")
        self.add_module(plugin.name, plugin.cfg.build_for(channels))
        self._plugins.setdefault(plugin.position, []).append(plugin.name)

    def _plugged(self, position: PluginPosition, x: Tensor) -> Tensor:
        for name in self._plugins.get(position, ()):
            x = self.get_submodule(name)(x)
        return x


class ResNet(StagedBackbone):
    """A stem and up to four stages of residual blocks, `layer1` to `layer4`."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        self.norm_eval = config.norm_eval
        self._make_stem(config)
        for stage in range(config.num_stages):
            blocks = [self.make_block(config, plan) for plan in config.block_plans(stage)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stage_names = tuple(f"layer{stage + 1}" for stage in range(config.num_stages))
        self._init_weights(config)
        self.train()

    def make_block(self, config: ResNetConfig, plan: BlockPlan) -> nn.Module:
        """One block; the place for another kind of it."""
        return Bottleneck(config, plan) if config.depth >= 50 else BasicBlock(config, plan)

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
        for layer in self._stem:
            images = layer(images)
        pooled: Tensor = self.maxpool(images)
        return pooled

    def frozen_modules(self) -> list[nn.Module]:
        stages = self.stage_names[: max(self.frozen_stages, 0)]
        stem = self._stem if self.frozen_stages >= 0 else []
        return stem + [self.get_submodule(name) for name in stages]

    def _make_stem(self, config: ResNetConfig) -> None:
        channels = config.base_channels if config.stem_channels is None else config.stem_channels
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self._stem_names: tuple[str, ...] = ("stem",)
        if not config.deep_stem:
            self.conv1 = build_conv(
                config.conv_cfg, config.in_channels, channels, 7, stride=2, padding=3, bias=False
            )
            self._stem_names = ("conv1", f"{config.norm_cfg.abbr}1", "relu")
            self.add_module(self._stem_names[1], config.norm_cfg.build_for(channels))
            self.relu = nn.ReLU(inplace=True)
            return
        layers: list[nn.Module] = []
        widths = (config.in_channels, channels // 2, channels // 2, channels)
        for index, (before, after) in enumerate(pairwise(widths)):
            layers += [
                build_conv(
                    config.conv_cfg, before, after, 3, stride=1 if index else 2, padding=1, bias=False
                ),
                config.norm_cfg.build_for(after),
                nn.ReLU(inplace=True),
            ]
        self.stem = nn.Sequential(*layers)

    @property
    def _stem(self) -> list[nn.Module]:
        return [self.get_submodule(name) for name in self._stem_names]

    def _init_weights(self, config: ResNetConfig) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                kaiming_init(module)
        for module in self.modules():
            if isinstance(module, DeformConv2dPack):
                module.reset_offset()
            if isinstance(module, ResidualBlock) and config.zero_init_residual:
                constant_init(module.last_norm, 0)
