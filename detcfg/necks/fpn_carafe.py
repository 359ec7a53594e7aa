"""A feature pyramid with configurable upsampling (mmdet/models/necks/fpn_carafe.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to `num_outs` maps (B, out_channels, H_j, W_j).
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.layers.activation import ActivationConfig
from detcfg.layers.carafe import CARAFEUpsample, CARAFEUpsampleConfig
from detcfg.layers.conv_module import ConvModule, Step
from detcfg.layers.init import xavier_init
from detcfg.layers.norm import NormConfig
from detcfg.layers.upsample import UpsampleConfig
from detcfg.necks.base import Neck
from detcfg.necks.fpn import PyramidConfig


@frozen(kw_only=True)
class FPNCARAFEConfig(PyramidConfig):
    """The pyramid of CARAFE (Wang et al., 2019, https://arxiv.org/abs/1905.02188).

    Its extra levels take part in the way down.
    """

    upsample_cfg: UpsampleConfig = CARAFEUpsampleConfig()
    """What enlarges a level for the one below it."""
    norm_cfg: NormConfig | None = None
    """The norm of each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = None
    """The activation of each convolution; None: none."""
    order: tuple[Step, Step, Step] = ("conv", "norm", "act")
    """The order of the three."""

    def wired(self) -> Self:
        if self.upsample_cfg.scale_factor != 2:
            raise ConfigError(
                f"upsample_cfg.scale_factor is {self.upsample_cfg.scale_factor}, but a level has half the size of "
                "the one below it. Set it to 2."
            )
        return super().wired()

    def build(self) -> FPNCARAFE:
        return FPNCARAFE(self.resolved())


class FPNCARAFE(Neck):
    """`lateral_convs` make all levels, `upsample_modules` go down through them, `fpn_convs` smooth the sums."""

    def __init__(self, config: FPNCARAFEConfig) -> None:
        super().__init__()
        self.start_level, self.stop_level = config.start_level, config.stop_level
        out = config.out_channels
        used = config.in_channels[config.start_level : config.stop_level]
        extra = config.num_outs - len(used)
        sources = (used[-1], *(out,) * extra)[:extra]
        laterals = [_conv(config, channels, 1) for channels in used]
        laterals += [_conv(config, channels, 3, stride=2) for channels in sources]
        self.lateral_convs = nn.ModuleList(laterals)
        self.fpn_convs = nn.ModuleList(_conv(config, out, 3) for _ in laterals)
        self.upsample_modules = nn.ModuleList(config.upsample_cfg.build_for(out, out) for _ in laterals[1:])
        self._init_weights()

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        used = features[self.start_level : self.stop_level]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=False)]
        source = used[-1]
        for conv in self.lateral_convs[len(used) :]:
            source = conv(source)
            laterals.append(source)
        for level in range(len(laterals) - 1, 0, -1):
            finer = laterals[level - 1]
            enlarged = self.upsample_modules[level - 1](laterals[level])
            laterals[level - 1] = finer + enlarged[..., : finer.shape[-2], : finer.shape[-1]]
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True))

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                xavier_init(module, distribution="uniform")
        for module in self.upsample_modules:
            if isinstance(module, CARAFEUpsample):
                module.init_weights()


def _conv(config: FPNCARAFEConfig, channels: int, kernel_size: int, *, stride: int = 1) -> ConvModule:
    return ConvModule(
        channels,
        config.out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        norm_cfg=config.norm_cfg,
        act_cfg=config.act_cfg,
        order=config.order,
    )
