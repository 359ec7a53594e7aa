"""High-resolution networks (mmdet/models/backbones/hrnet.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each branch of the last stage, finest first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.backbones.residual import BasicBlock, BlockPlan, Bottleneck, ResidualBlock
from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import Config, ConfigError
from detcfg.config.ranges import NonEmpty, OneOrMoreLayers, PositiveInt
from detcfg.layers.conv import ConvConfig, ConvSpec, build_conv
from detcfg.layers.fold import ConvSequential, in_a_row
from detcfg.layers.init import constant_init, kaiming_init
from detcfg.layers.norm import BNConfig, NormConfig

STEM_CHANNELS = 64


@frozen(kw_only=True)
class HRStageConfig(Config):
    """One stage: modules of parallel branches, each branch a row of residual blocks."""

    num_modules: OneOrMoreLayers
    """Modules one after another; the branches exchange their features at the end of each."""
    num_branches: PositiveInt
    """Parallel branches, each at half the resolution of the one before."""
    block: Literal["BASIC", "BOTTLENECK"] = "BASIC"
    """The kind of residual block; "BOTTLENECK" gives four times its width."""
    num_blocks: NonEmpty[OneOrMoreLayers]
    """Blocks of each branch."""
    num_channels: NonEmpty[PositiveInt]
    """Width of each branch's blocks."""

    def wired(self) -> Self:
        for name, values in (("num_blocks", self.num_blocks), ("num_channels", self.num_channels)):
            if len(values) != self.num_branches:
                raise ConfigError(
                    f"{name} has {len(values)} values {values}, but num_branches is {self.num_branches}. "
                    "Give one value a branch."
                )
        return super().wired()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels out of each branch."""
        return tuple(width * (4 if self.block == "BOTTLENECK" else 1) for width in self.num_channels)


@frozen(kw_only=True)
class HRExtraConfig(Config):
    """The four stages; those of HRNetV2-W32 by default."""

    stage1: HRStageConfig = HRStageConfig(
        num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(4,), num_channels=(64,)
    )
    """A plain row of blocks: it has one branch."""
    stage2: HRStageConfig = HRStageConfig(
        num_modules=1, num_branches=2, num_blocks=(4, 4), num_channels=(32, 64)
    )
    """Branches of strides 4 and 8."""
    stage3: HRStageConfig = HRStageConfig(
        num_modules=4, num_branches=3, num_blocks=(4, 4, 4), num_channels=(32, 64, 128)
    )
    """Branches of strides 4, 8 and 16."""
    stage4: HRStageConfig = HRStageConfig(
        num_modules=3, num_branches=4, num_blocks=(4, 4, 4, 4), num_channels=(32, 64, 128, 256)
    )
    """Branches of strides 4, 8, 16 and 32; its maps are the output."""

    def wired(self) -> Self:
        stages = {name: getattr(self, name) for name in ("stage1", "stage2", "stage3", "stage4")}
        branches = {name: stage.num_branches for name, stage in stages.items()}
        if self.stage1.num_branches != 1:
            raise ConfigError(f"stage1.num_branches is {self.stage1.num_branches}; the first stage has one.")
        for (before, fewer), (after, more) in pairwise(branches.items()):
            if more < fewer:
                raise ConfigError(
                    f"{after}.num_branches is {more}, but {before}.num_branches is {fewer}: "
                    "a stage keeps the branches before it."
                )
        return super().wired()


def wide(width: int) -> HRExtraConfig:
    """The stages of HRNetV2-W`width`: 18, 32, 40 and 48 are published."""
    widths = (width, 2 * width, 4 * width, 8 * width)
    return HRExtraConfig(
        stage2=HRStageConfig(num_modules=1, num_branches=2, num_blocks=(4,) * 2, num_channels=widths[:2]),
        stage3=HRStageConfig(num_modules=4, num_branches=3, num_blocks=(4,) * 3, num_channels=widths[:3]),
        stage4=HRStageConfig(num_modules=3, num_branches=4, num_blocks=(4,) * 4, num_channels=widths),
    )


@frozen(kw_only=True)
class HRNetConfig(BackboneConfig):
    """HRNet (Sun et al., 2019, https://arxiv.org/abs/1904.04514)."""

    extra: HRExtraConfig = HRExtraConfig()
    """The four stages."""
    in_channels: PositiveInt = 3
    """Channels of the images."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig = BNConfig()
    """The norm after each convolution."""
    norm_eval: bool = True
    """Batch norms use their running statistics in training too."""
    with_cp: bool = False
    """Activation (gradient) checkpointing: recompute the blocks' activations in the backward pass."""
    zero_init_residual: bool = False
    """Blocks start as the identity."""
    multiscale_output: bool = True
    """Give all branches rather than only the finest."""

    @property
    def blocks_config(self) -> ResNetConfig:
        """What the residual blocks are made of."""
        return ResNetConfig(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, with_cp=self.with_cp)

    @property
    def _outputs(self) -> int:
        return self.extra.stage4.num_branches if self.multiscale_output else 1

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.extra.stage4.channels[: self._outputs]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(4 * 2**branch for branch in range(self._outputs))

    def build(self) -> HRNet:
        return HRNet(self.resolved())


class HRNet(StagedBackbone):
    """A stem of stride 4, a plain stage, and three stages of branches that exchange their features."""

    def __init__(self, config: HRNetConfig) -> None:
        super().__init__()
        self.norm_eval = config.norm_eval
        extra = config.extra
        self.conv1 = self._strided_conv(config, config.in_channels)
        self.conv2 = self._strided_conv(config, STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        norms = [f"{config.norm_cfg.abbr}{number}" for number in (1, 2)]
        for name in norms:
            self.add_module(name, config.norm_cfg.build_for(STEM_CHANNELS))
        self._stem_names = ("conv1", norms[0], "relu", "conv2", norms[1], "relu")
        self.layer1 = _row(config, extra.stage1, 0, STEM_CHANNELS)
        self.transition1 = _transition(config, extra.stage1.channels, extra.stage2.channels)
        self.stage2 = _stage(config, extra.stage2)
        self.transition2 = _transition(config, extra.stage2.channels, extra.stage3.channels)
        self.stage3 = _stage(config, extra.stage3)
        self.transition3 = _transition(config, extra.stage3.channels, extra.stage4.channels)
        self.stage4 = _stage(config, extra.stage4, finest_only=not config.multiscale_output)
        self._init_weights(zero_residual=config.zero_init_residual)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = in_a_row((self.get_submodule(name) for name in self._stem_names), images)
        branches: tuple[Tensor, ...] = (self.layer1(x),)
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            given = branches + branches[-1:] * (len(transition) - len(branches))
            branches = stage(tuple(fit(x) for fit, x in zip(transition, given, strict=True)))
        return branches

    @staticmethod
    def _strided_conv(config: HRNetConfig, channels: int) -> nn.Module:
        spec = ConvSpec(channels, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        return build_conv(config.conv_cfg, spec)

    def _init_weights(self, *, zero_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                kaiming_init(module)
            if isinstance(module, ResidualBlock) and zero_residual:
                constant_init(module.last_norm, 0)


class HRModule(nn.Module):
    """Runs the branches apart; then each becomes the rectified sum of all, at that branch's resolution."""

    def __init__(self, config: HRNetConfig, stage: HRStageConfig, *, finest_only: bool = False) -> None:
        super().__init__()
        indices = range(stage.num_branches)
        self.branches = nn.ModuleList(_row(config, stage, i, stage.channels[i]) for i in indices)
        self.fuse_layers: nn.ModuleList | None = None
        if stage.num_branches > 1:
            self.fuse_layers = nn.ModuleList(
                nn.ModuleList(_exchange(config, stage.channels, source, target) for source in indices)
                for target in indices[: 1 if finest_only else None]
            )
        self.relu = nn.ReLU(inplace=False)

    def forward(self, branches: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outs = [row(x) for row, x in zip(self.branches, branches, strict=True)]
        if self.fuse_layers is None:
            return tuple(outs)
        fused: list[Tensor] = []
        for target, layers in zip(outs, self.fuse_layers, strict=False):
            total = sum(_resized(layer(x), target) for layer, x in zip(layers.children(), outs, strict=True))
            fused.append(self.relu(total))
        return tuple(fused)


def _resized(x: Tensor, target: Tensor) -> Tensor:
    """`x` at the resolution of `target`, by its nearest pixels."""
    return x if x.shape[2:] == target.shape[2:] else F.interpolate(x, size=target.shape[2:], mode="nearest")


def _row(config: HRNetConfig, stage: HRStageConfig, branch: int, in_channels: int) -> nn.Sequential:
    """The residual blocks of a branch."""
    width, out = stage.num_channels[branch], stage.channels[branch]
    kind = Bottleneck if stage.block == "BOTTLENECK" else BasicBlock
    blocks: list[ResidualBlock] = []
    for index in range(stage.num_blocks[branch]):
        plan = BlockPlan(
            stage=0,
            first=index == 0,
            in_channels=out if index else in_channels,
            mid_channels=width,
            out_channels=out,
            stride=1,
            dilation=1,
        )
        blocks.append(kind(config.blocks_config, plan))
    return nn.Sequential(*blocks)


def _stage(config: HRNetConfig, stage: HRStageConfig, *, finest_only: bool = False) -> nn.Sequential:
    last = stage.num_modules - 1
    return nn.Sequential(
        *(HRModule(config, stage, finest_only=finest_only and i == last) for i in range(stage.num_modules))
    )


def _conv_norm(
    config: HRNetConfig, before: int, after: int, *, kernel_size: int, stride: int = 1
) -> list[nn.Module]:
    spec = ConvSpec(before, after, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return [build_conv(config.conv_cfg, spec), config.norm_cfg.build_for(after)]


def _exchange(config: HRNetConfig, channels: tuple[int, ...], source: int, target: int) -> nn.Module:
    """From one branch to the channels of another, and down to its resolution where that is coarser."""
    before, after = channels[source], channels[target]
    if source == target:
        return nn.Identity()
    if source > target:  # coarser: `_resized` enlarges it
        return ConvSequential(*_conv_norm(config, before, after, kernel_size=1))
    steps: list[nn.Module] = []
    for left in reversed(range(target - source)):
        step = _conv_norm(config, before, before if left else after, kernel_size=3, stride=2)
        steps.append(ConvSequential(*step, *([nn.ReLU(inplace=False)] if left else [])))
    return nn.Sequential(*steps)


def _transition(config: HRNetConfig, before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    """Fit the branches to the widths of the next stage, and stride the coarsest into new ones."""
    layers: list[nn.Module] = []
    for branch, channels in enumerate(after):
        if branch < len(before):
            same = channels == before[branch]
            step = _conv_norm(config, before[branch], channels, kernel_size=3)
            layers.append(nn.Identity() if same else ConvSequential(*step, nn.ReLU(inplace=True)))
            continue
        steps: list[nn.Module] = []
        for left in reversed(range(branch + 1 - len(before))):
            out = before[-1] if left else channels
            step = _conv_norm(config, before[-1], out, kernel_size=3, stride=2)
            steps.append(ConvSequential(*step, nn.ReLU(inplace=True)))
        layers.append(nn.Sequential(*steps))
    return nn.ModuleList(layers)
