"""NAS-FPN (mmdet/models/necks/nas_fpn.py).

Shapes: (B, in_channels[i], H_i, W_i), finest first, to five maps (B, out_channels, H_j, W_j), P3 to P7.
"""

from __future__ import annotations

from typing import Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import NumLayers
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import kaiming_init
from detcfg.layers.merge_cells import GlobalPoolingCell, SumCell
from detcfg.layers.norm import NormConfig
from detcfg.necks.base import Neck
from detcfg.necks.fpn import PyramidConfig

LEVELS = 5
"""Levels of the architecture that the search found."""


@frozen(kw_only=True)
class NASFPNConfig(PyramidConfig):
    """A pyramid found by neural architecture search (Ghiasi et al., 2019, https://arxiv.org/abs/1904.07392)."""

    stack_times: NumLayers = 7
    """How many times the stage is stacked."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""

    def wired(self) -> Self:
        wired = super().wired()
        if not is_unset(wired.in_channels) and wired.num_outs != LEVELS:
            raise ConfigError(f"num_outs is {wired.num_outs}, but NAS-FPN was searched for {LEVELS} levels.")
        return wired

    def build(self) -> NASFPN:
        return NASFPN(self.resolved())


class NASFPN(Neck):
    """Three levels of one width, two more by pooling, and the same stage several times."""

    def __init__(self, config: NASFPNConfig) -> None:
        super().__init__()
        self.used = slice(config.start_level, config.stop_level)
        out, norm = config.out_channels, config.norm_cfg
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out, 1, norm_cfg=norm, act_cfg=None)
            for channels in config.in_channels[self.used]
        )
        self.extra_downsamples = nn.ModuleList(
            nn.Sequential(ConvModule(out, out, 1, norm_cfg=norm, act_cfg=None), nn.MaxPool2d(2, 2))
            for _ in range(config.num_outs - config.used_levels)
        )
        self.fpn_stages = nn.ModuleList(Stage(out, norm) for _ in range(config.stack_times))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                kaiming_init(module, a=1, mode="fan_in", nonlinearity="leaky_relu", distribution="uniform")

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        levels: list[Tensor] = [
            conv(x) for conv, x in zip(self.lateral_convs, features[self.used], strict=True)
        ]
        for downsample in self.extra_downsamples:
            levels.append(downsample(levels[-1]))
        out = tuple(levels)
        for stage in self.fpn_stages:
            out = stage(out)
        return out


class Stage(nn.ModuleDict):
    """Each cell is named by what it is, the levels that it reads and the level that it gives."""

    def __init__(self, channels: int, norm_cfg: NormConfig | None) -> None:
        super().__init__(
            {
                "gp_64_4": GlobalPoolingCell(channels, norm_cfg),
                "sum_44_4": SumCell(channels, norm_cfg),
                "sum_43_3": SumCell(channels, norm_cfg),
                "sum_34_4": SumCell(channels, norm_cfg),
                "gp_43_5": GlobalPoolingCell(channels, with_out_conv=False),
                "sum_55_5": SumCell(channels, norm_cfg),
                "gp_54_7": GlobalPoolingCell(channels, with_out_conv=False),
                "sum_77_7": SumCell(channels, norm_cfg),
                "gp_75_6": GlobalPoolingCell(channels, norm_cfg),
            }
        )

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        p3, p4, p5, p6, p7 = levels
        size3, size4, size5, size6, size7 = ((x.shape[-2], x.shape[-1]) for x in levels)
        middle = self["gp_64_4"](p6, p4, size4)
        middle = self["sum_44_4"](middle, p4, size4)
        p3 = self["sum_43_3"](middle, p3, size3)
        p4 = self["sum_34_4"](p3, middle, size4)
        p5 = self["sum_55_5"](p5, self["gp_43_5"](p4, p3, size5), size5)
        p7 = self["sum_77_7"](p7, self["gp_54_7"](p5, middle, size7), size7)
        p6 = self["gp_75_6"](p7, p5, size6)
        return p3, p4, p5, p6, p7
