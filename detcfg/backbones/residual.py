"""Residual stages: what ResNet and its relatives share (mmdet/models/backbones/resnet.py)."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import Annotated, Literal, Self

from annotated_types import Ge, Le
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import Increasing, IntOrOff, NonEmpty, NonNegativeInt, PositiveInt
from detcfg.layers.checkpoint import recomputed
from detcfg.layers.conv import ConvConfig, ConvSpec, build_conv
from detcfg.layers.deform_conv import DeformConvConfig
from detcfg.layers.fold import ConvSequential, conv_norm
from detcfg.layers.norm import BNConfig, NormConfig
from detcfg.layers.plugin import PluginConfig, PluginPosition


@frozen(kw_only=True)
class ResidualConfig(BackboneConfig):
    """What the backbones of residual stages share."""

    in_channels: PositiveInt = 3
    """Channels of the images."""
    stem_channels: PositiveInt | None = None
    """Channels of the stem; None: `base_channels`."""
    base_channels: PositiveInt = 64
    """Width of the first stage's blocks; each stage doubles it."""
    num_stages: Annotated[int, Ge(1), Le(4)] = 4
    """Stages of residual blocks."""
    strides: NonEmpty[PositiveInt] = (1, 2, 2, 2)
    """Stride of each stage's first block."""
    dilations: NonEmpty[PositiveInt] = (1, 1, 1, 1)
    """Dilation of each stage's 3x3 convolutions."""
    out_indices: Increasing[NonNegativeInt] = (0, 1, 2, 3)
    """The stages whose output is given, from 0."""
    style: Literal["pytorch", "caffe"] = "pytorch"
    """Whether the 3x3 ("pytorch") or the first 1x1 ("caffe") convolution of a block has the stride."""
    deep_stem: bool = False
    """Whether the stem is three 3x3 convolutions instead of one 7x7."""
    avg_down: bool = False
    """Shortcuts average before their 1x1 convolution rather than stride in it."""
    frozen_stages: IntOrOff = -1
    """Freeze the backbone up to this stage: 0 freezes the stem, 1 also the first stage; -1: nothing."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig = BNConfig()
    """The norm after each convolution."""
    norm_eval: bool = True
    """Batch norms use their running statistics in training too."""
    dcn: DeformConvConfig | None = None
    """Replaces the 3x3 convolutions in the stages of `stage_with_dcn`; None: no stage has one."""
    stage_with_dcn: tuple[bool, ...] = (False, False, False, False)
    """Which stages have `dcn`."""
    plugins: tuple[PluginConfig, ...] = ()
    """Modules inside the blocks, such as context blocks."""
    with_cp: bool = False
    """Activation (gradient) checkpointing: recompute activations in the backward pass."""
    zero_init_residual: bool = True
    """Blocks start as the identity."""

    def wired(self) -> Self:
        wired = super().wired()
        wired.check_stages()
        if self.dcn is not None and self.conv_cfg is not None:
            raise ConfigError(
                f"dcn is {type(self.dcn).__name__} and conv_cfg is {type(self.conv_cfg).__name__}, "
                "but a convolution is of one kind. Leave one of them out."
            )
        return wired

    def check_stages(self) -> None:
        """Refuse values that do not go with `num_stages`."""
        if not 1 <= self.num_stages <= 4:
            raise ConfigError(f"num_stages is {self.num_stages}; there are 1 to 4 stages.")
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
        for stage in range(self.num_stages):
            names = [plugin.name for plugin in self.plugins if plugin.in_stage(stage)]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ConfigError(
                    f"plugins: two are named {min(twice)!r} in stage {stage}. Give one of them a postfix."
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
    @abstractmethod
    def blocks(self) -> tuple[int, ...]:
        """Blocks of each stage."""

    @property
    def expansion(self) -> int:
        """Channels out of a block by its width."""
        return 4

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Width of each stage's blocks."""
        return tuple(self.base_channels * 2**stage for stage in range(self.num_stages))

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels out of each stage."""
        return tuple(width * self.expansion for width in self.stage_widths)

    @property
    def stem_stride(self) -> int:
        """Stride of what comes before the first stage."""
        return 4

    @property
    def stem_width(self) -> int:
        """Channels out of the stem."""
        return self.base_channels if self.stem_channels is None else self.stem_channels

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(c for i, c in enumerate(self.stage_channels) if i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = [self.stem_stride * prod(self.strides[: i + 1]) for i in range(self.num_stages)]
        return tuple(s for i, s in enumerate(strides) if i in self.out_indices)

    def block_plans(self, stage: int) -> list[BlockPlan]:
        """The geometry of each block of a stage."""
        before, after = (self.stem_width, *self.stage_channels)[stage : stage + 2]
        return [
            BlockPlan(
                stage=stage,
                first=index == 0,
                in_channels=after if index else before,
                mid_channels=self.stage_widths[stage],
                out_channels=after,
                stride=1 if index else self.strides[stage],
                dilation=self.dilations[stage],
            )
            for index in range(self.blocks[stage])
        ]

    def make_block(self, plan: BlockPlan) -> ResidualBlock:
        """The module of one block; override it for another kind of block."""
        return Bottleneck(self, plan)


@frozen(kw_only=True)
class BlockPlan:
    """The geometry of one residual block."""

    stage: int
    """Its stage, from 0."""
    first: bool
    """Whether it is the first of its stage."""
    in_channels: int
    """Channels that come in."""
    mid_channels: int
    """Channels of the 3x3 convolution."""
    out_channels: int
    """Channels that go out."""
    stride: int
    """Of the block."""
    dilation: int
    """Of its 3x3 convolution."""
    groups: int = 1
    """Of its 3x3 convolution."""

    def conv3x3(self, in_channels: int, out_channels: int, *, stride: int, groups: int = 1) -> ConvSpec:
        """A 3x3 convolution with the block's dilation, without bias; stride 1 keeps the size."""
        return ConvSpec(
            in_channels,
            out_channels,
            3,
            stride=stride,
            padding=self.dilation,
            dilation=self.dilation,
            groups=groups,
            bias=False,
        )


class ResidualBlock(nn.Module):
    """`relu(residual(x) + shortcut(x))`: a subclass says what its residual is."""

    def __init__(self, config: ResidualConfig, plan: BlockPlan) -> None:
        super().__init__()
        self.with_cp = config.with_cp
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(config, plan)
        self._norm_name = config.norm_cfg.abbr

    def add_norm(self, config: ResidualConfig, number: int, channels: int) -> None:
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
        residual += x if self.downsample is None else self.downsample(x)  # in place: nothing keeps it
        return residual


def _shortcut(config: ResidualConfig, plan: BlockPlan) -> ConvSequential | None:
    """A 1x1 convolution where the block changes the shape."""
    if plan.stride == 1 and plan.in_channels == plan.out_channels:
        return None
    layers: list[nn.Module] = []
    stride = plan.stride
    if config.avg_down:
        layers.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    spec = ConvSpec(plan.in_channels, plan.out_channels, 1, stride=stride, bias=False)
    layers += [build_conv(config.conv_cfg, spec), config.norm_cfg.build_for(plan.out_channels)]
    return ConvSequential(*layers)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions."""

    def __init__(self, config: ResidualConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        self.conv1 = build_conv(
            config.conv_cfg,
            plan.conv3x3(plan.in_channels, plan.mid_channels, stride=plan.stride),
        )
        self.add_norm(config, 1, plan.mid_channels)
        self.conv2 = build_conv(
            config.conv_cfg, ConvSpec(plan.mid_channels, plan.out_channels, 3, padding=1, bias=False)
        )
        self.add_norm(config, 2, plan.out_channels)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm(2)

    def residual(self, x: Tensor) -> Tensor:
        x = self.relu(conv_norm(self.conv1, self.norm(1), x))
        return conv_norm(self.conv2, self.norm(2), x)


class BottleneckFrame(ResidualBlock):
    """1x1 convolution, a middle that a subclass adds, 1x1 convolution; plugins after each."""

    def __init__(self, config: ResidualConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        caffe = config.style == "caffe"
        self.middle_stride = 1 if caffe else plan.stride
        self.conv1 = build_conv(
            config.conv_cfg,
            ConvSpec(plan.in_channels, plan.mid_channels, 1, stride=plan.stride if caffe else 1, bias=False),
        )
        self.add_norm(config, 1, plan.mid_channels)
        self.conv3 = build_conv(
            config.conv_cfg, ConvSpec(plan.mid_channels, plan.out_channels, 1, bias=False)
        )
        self.add_norm(config, 3, plan.out_channels)
        self._plugins: dict[PluginPosition, list[str]] = {}
        for plugin in config.plugins:
            if plugin.in_stage(plan.stage):
                last = plugin.position == "after_conv3"
                self._add_plugin(plugin, plan.out_channels if last else plan.mid_channels)

    @property
    def last_norm(self) -> nn.Module:
        return self.norm(3)

    def middle(self, x: Tensor) -> Tensor:
        """From the first 1x1 convolution to the second."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        x = self._plugged("after_conv1", self.relu(conv_norm(self.conv1, self.norm(1), x)))
        x = self._plugged("after_conv2", self.middle(x))
        return self._plugged("after_conv3", conv_norm(self.conv3, self.norm(3), x))

    def _add_plugin(self, plugin: PluginConfig, channels: int) -> None:
        self.add_module(plugin.name, plugin.cfg.build_for(channels))
        self._plugins.setdefault(plugin.position, []).append(plugin.name)

    def _plugged(self, position: PluginPosition, x: Tensor) -> Tensor:
        for name in self._plugins.get(position, ()):
            x = self.get_submodule(name)(x)
        return x


class Bottleneck(BottleneckFrame):
    """1x1, 3x3 and 1x1 convolutions."""

    def __init__(self, config: ResidualConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        self.conv2 = build_conv(
            middle_conv(config, plan),
            plan.conv3x3(plan.mid_channels, plan.mid_channels, stride=self.middle_stride, groups=plan.groups),
        )
        self.add_norm(config, 2, plan.mid_channels)

    def middle(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(conv_norm(self.conv2, self.norm(2), x))
        return out


def middle_conv(config: ResidualConfig, plan: BlockPlan) -> ConvConfig | None:
    """The kind of a block's 3x3 convolution, which may be deformable."""
    deformable = config.dcn is not None and config.stage_with_dcn[plan.stage]
    return config.dcn if deformable else config.conv_cfg
