"""ResNeSt (mmdet/models/backbones/resnest.py)."""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.backbones.residual import BlockPlan, BottleneckFrame, middle_conv
from detcfg.backbones.resnet import ResNetV1dConfig
from detcfg.backbones.resnext import grouped_width
from detcfg.config.ranges import PositiveInt
from detcfg.layers.conv import build_conv
from detcfg.layers.fold import conv_norm


@frozen(kw_only=True)
class ResNeStConfig(ResNetV1dConfig):
    """Split-attention networks (Zhang et al., 2020, https://arxiv.org/abs/2004.08955)."""

    depth: Literal[50, 101, 152, 200] = 50
    """Layers, which decide how many blocks each stage has."""
    groups: PositiveInt = 1
    """Groups of channels that do not mix."""
    base_width: PositiveInt = 4
    """Channels of one group in the first stage, where there are groups."""
    radix: PositiveInt = 2
    """Splits whose weighted sum a block gives."""
    reduction_factor: PositiveInt = 4
    """How much narrower the attention is than the splits."""
    avg_down_stride: bool = True
    """Blocks average rather than stride in their 3x3 convolution."""

    def block_plans(self, stage: int) -> list[BlockPlan]:
        width = grouped_width(self.stage_widths[stage], self.groups, self.base_width, self.base_channels)
        return [evolve(plan, mid_channels=width, groups=self.groups) for plan in super().block_plans(stage)]

    def make_block(self, plan: BlockPlan) -> SplitAttentionBottleneck:
        return SplitAttentionBottleneck(self, plan)


class SplitAttentionBottleneck(BottleneckFrame):
    """A bottleneck whose 3x3 convolution is split-attention over `radix` splits."""

    def __init__(self, config: ResNeStConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        stride = self.middle_stride
        averaged = config.avg_down_stride and stride > 1
        self.conv2 = SplitAttentionConv2d(config, plan, stride=1 if averaged else stride)
        self.avd_layer = nn.AvgPool2d(3, stride, padding=1) if averaged else nn.Identity()

    def middle(self, x: Tensor) -> Tensor:
        out: Tensor = self.avd_layer(self.conv2(x))
        return out


class SplitAttentionConv2d(nn.Module):
    """A 3x3 convolution to `radix` splits, and their sum weighted for each channel.

    Shapes: (B, C, H, W) to (B, C, H / stride, W / stride).
    """

    def __init__(self, config: ResNeStConfig, plan: BlockPlan, stride: int) -> None:
        super().__init__()
        self.radix, self.groups = config.radix, plan.groups
        channels = plan.mid_channels
        inner = max(channels * config.radix // config.reduction_factor, 32)
        abbr = config.norm_cfg.abbr
        self._norm_names = (f"{abbr}0", f"{abbr}1")
        self.conv = build_conv(
            middle_conv(config, plan),
            plan.conv3x3(channels, channels * config.radix, stride=stride, groups=plan.groups * config.radix),
        )
        self.add_module(self._norm_names[0], config.norm_cfg.build_for(channels * config.radix))
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(channels, inner, 1, groups=plan.groups)
        self.add_module(self._norm_names[1], config.norm_cfg.build_for(inner))
        self.fc2 = nn.Conv2d(inner, channels * config.radix, 1, groups=plan.groups)

    def forward(self, x: Tensor) -> Tensor:
        norm0, norm1 = (self.get_submodule(name) for name in self._norm_names)
        x = self.relu(conv_norm(self.conv, norm0, x))
        batch, channels, height, width = x.shape
        splits = x.view(batch, self.radix, channels // self.radix, height, width)
        pooled = splits.sum(1).mean((2, 3), keepdim=True)
        attention = self._weights(self.fc2(self.relu(conv_norm(self.fc1, norm1, pooled))))
        return (attention.view(batch, self.radix, -1, 1, 1) * splits).sum(1)

    def _weights(self, logits: Tensor) -> Tensor:
        """(B, groups * radix * c, 1, 1) logits to (B, radix * groups * c) weights over the splits."""
        if self.radix == 1:
            return logits.flatten(1).sigmoid()
        grouped = logits.view(len(logits), self.groups, self.radix, -1).transpose(1, 2)
        return grouped.softmax(1).flatten(1)
