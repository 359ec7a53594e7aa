"""The ResNet of DetectoRS (mmdet/models/backbones/detectors_resnet.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, cast

from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.residual import BlockPlan, Bottleneck, ResidualBlock
from detcfg.backbones.resnet import ResNet, ResNetConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import PositiveInt
from detcfg.layers.checkpoint import recomputed
from detcfg.layers.conv import build_conv
from detcfg.layers.init import constant_init
from detcfg.layers.sac import SACConfig, SAConv2d


@frozen(kw_only=True)
class DetectoRSResNetConfig(ResNetConfig):
    """MMDetection's `DetectoRS_ResNet` (Qiao et al., 2020, https://arxiv.org/abs/2006.02334)."""

    depth: Literal[50, 101, 152] = 50
    """Layers, which decide how many blocks each stage has."""
    sac: SACConfig | None = None
    """Replaces the 3x3 convolutions in the stages of `stage_with_sac`; None: no stage has one."""
    stage_with_sac: tuple[bool, ...] = (False, False, False, False)
    """Which stages have `sac`, one value a stage."""
    rfp_inplanes: PositiveInt | None = None
    """Channels of the features that a recursive pyramid feeds back; None: it feeds nothing back."""
    output_img: bool = False
    """Whether the image itself comes before the feature maps, as a recursive pyramid needs it."""

    def wired(self) -> Self:
        wired = super().wired()
        if len(self.stage_with_sac) != self.num_stages and self.sac is not None:
            raise ConfigError(
                f"stage_with_sac has {len(self.stage_with_sac)} values {self.stage_with_sac}, but num_stages is "
                f"{self.num_stages}. Give one value a stage."
            )
        return wired

    @property
    def gives_image(self) -> bool:
        return self.output_img

    def make_block(self, plan: BlockPlan) -> ResidualBlock:
        return DetectoRSBottleneck(self, plan)

    def build(self) -> DetectoRSResNet:
        return DetectoRSResNet(self.resolved())


class DetectoRSBottleneck(Bottleneck):
    """A bottleneck that can add the maps which a recursive feature pyramid feeds back."""

    def __init__(self, config: DetectoRSResNetConfig, plan: BlockPlan) -> None:
        super().__init__(config, plan)
        if config.sac is not None and config.stage_with_sac[plan.stage]:
            self.conv2 = build_conv(
                config.sac,
                plan.conv3x3(
                    plan.mid_channels, plan.mid_channels, stride=self.middle_stride, groups=plan.groups
                ),
            )
        self.rfp_conv = None
        if plan.first and plan.stage > 0 and config.rfp_inplanes is not None:
            self.rfp_conv = nn.Conv2d(config.rfp_inplanes, plan.out_channels, 1)

    def rfp_forward(self, x: Tensor, fed_back: Tensor | None) -> Tensor:
        """`forward`, plus the pyramid's map of this stage (B, rfp_inplanes, H', W') where there is one."""
        total = recomputed(self._sum, x) if self.with_cp and x.requires_grad else self._sum(x)
        if self.rfp_conv is not None and fed_back is not None:
            total = total + self.rfp_conv(fed_back)
        activated: Tensor = self.relu(total)
        return activated


class DetectoRSResNet(ResNet):
    """A ResNet that can also run with a pyramid's maps fed back into its stages."""

    def __init__(self, config: DetectoRSResNetConfig) -> None:
        super().__init__(config)
        self.output_img = config.output_img
        for module in self.modules():
            if isinstance(module, SAConv2d):
                module.reset_switch()
            if isinstance(module, DetectoRSBottleneck) and module.rfp_conv is not None:
                constant_init(module.rfp_conv, 0)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = super().forward(images)
        return (images, *features) if self.output_img else features

    def rfp_forward(self, images: Tensor, fed_back: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The feature maps of `images`, with those of a pyramid, finest first, fed back from the second on."""
        x = self.stem_features(images)
        outs: list[Tensor] = []
        for index, name in enumerate(self.stage_names):
            for block in self.get_submodule(name).children():
                previous = fed_back[index] if index > 0 else None
                x = cast("DetectoRSBottleneck", block).rfp_forward(x, previous)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
