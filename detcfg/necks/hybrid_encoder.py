"""The hybrid encoder of RT-DETR, in D-FINE's form (`zoo/dfine/hybrid_encoder.py` of Peterande/D-FINE).

Shapes: maps (B, C_i, H_i, W_i), finest first, whose sides halve from one to the next; D hidden channels.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import OneOrMoreLayers, PositiveFloat, PositiveInt, ProperFraction
from detcfg.layers.activation import ActivationConfig, SiLUConfig
from detcfg.layers.conv_norm import ConvNorm
from detcfg.layers.projection import projection
from detcfg.layers.sine_position import sine_positions
from detcfg.layers.tokens import tokens
from detcfg.necks.base import Neck, NeckConfig


@frozen(kw_only=True)
class HybridEncoderConfig(NeckConfig):
    """Self-attention on the coarsest map, then a path down and one up the pyramid (Zhao et al., 2023).

    https://arxiv.org/abs/2304.08069; blocks as in D-FINE (Peng et al., 2024, https://arxiv.org/abs/2410.13842).
    Positions run by rows, where the references list them by columns: the same on square maps, and right on others.
    """

    hidden_dim: PositiveInt = 256
    """D: channels of every map inside and of those that come out."""
    nhead: PositiveInt = 8
    """Heads of the self-attention, a divisor of `hidden_dim`."""
    dim_feedforward: PositiveInt = 1024
    """Channels between the two linear layers of a transformer layer."""
    dropout: ProperFraction = 0.0
    """Probability that a value of a transformer layer is left out in training."""
    use_encoder_idx: tuple[int, ...] = (-1,)
    """The maps that attend to themselves, counted from the finest; -1 is the coarsest."""
    num_encoder_layers: OneOrMoreLayers = 1
    """Transformer layers of each of them."""
    pe_temperature: PositiveFloat = 10000.0
    """Base of the frequencies of the positions."""
    expansion: PositiveFloat = 1.0
    """Width of the inner convolutions of a fusion block, in shares of `hidden_dim`."""
    depth_mult: PositiveFloat = 1.0
    """Blocks of a fusion block: three times this, rounded."""
    act_cfg: ActivationConfig = SiLUConfig()
    """The activation of the fusion blocks."""

    def wired(self) -> Self:
        if self.hidden_dim % self.nhead or self.hidden_dim % 4:
            raise ConfigError(
                f"hidden_dim is {self.hidden_dim} and nhead {self.nhead}: hidden_dim has to be a multiple of both nhead "
                "and 4."
            )
        if not is_unset(self.in_strides):
            levels = len(self.in_strides)
            if any(
                2 * fine != coarse for fine, coarse in zip(self.in_strides, self.in_strides[1:], strict=False)
            ):
                raise ConfigError(
                    f"in_strides are {self.in_strides}, but each map has to be half as large as the one before it. "
                    "Choose the backbone's out_indices so."
                )
            if any(not -levels <= index < levels for index in self.use_encoder_idx):
                raise ConfigError(f"use_encoder_idx is {self.use_encoder_idx}, and there are {levels} maps.")
        return super().wired()

    @property
    def mid_channels(self) -> int:
        """Channels of the inner convolutions of a fusion block."""
        return round(self.expansion * self.hidden_dim // 2)

    def make_lateral(self) -> nn.Module:
        """What a map goes through before it is enlarged on the way down: D channels to D."""
        return ConvNorm(self.hidden_dim, self.hidden_dim)

    def make_downsample(self) -> nn.Module:
        """What halves a map on the way up: D channels to D."""
        return nn.Sequential(SCDown(self.hidden_dim))

    def make_fusion(self) -> nn.Module:
        """A fusion block: 2D channels to D."""
        return RepNCSPELAN4(self)

    @property
    def num_blocks(self) -> int:
        """Blocks of each branch of a fusion block."""
        return round(3 * self.depth_mult)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.hidden_dim,) * len(self.in_channels)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return self.in_strides

    def build(self) -> HybridEncoder:
        return HybridEncoder(self.resolved())


class SCDown(nn.Module):
    """Half the size: a 1x1 convolution, and a strided one of each channel alone, both without activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = ConvNorm(channels, channels)
        self.cv2 = ConvNorm(channels, channels, 3, stride=2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cv2(self.cv1(x))
        return out


class VGGBlock(nn.Module):
    """The sum of a 3x3 and a 1x1 convolution (RepVGG, Ding et al., 2021, https://arxiv.org/abs/2101.03697)."""

    def __init__(self, channels: int, act_cfg: ActivationConfig) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3)
        self.conv2 = ConvNorm(channels, channels)
        self.act = act_cfg.build()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv1(x) + self.conv2(x))
        return out


class CSPLayer(nn.Module):
    """Two branches, one of them with blocks, that are added (not joined, as CSPNet has it)."""

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int, act_cfg: ActivationConfig
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, act_cfg=act_cfg)
        self.conv2 = ConvNorm(in_channels, out_channels, act_cfg=act_cfg)
        self.bottlenecks = nn.Sequential(*(VGGBlock(out_channels, act_cfg) for _ in range(num_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bottlenecks(self.conv1(x)) + self.conv2(x)
        return out


class RepNCSPELAN4(nn.Module):
    """GELAN of YOLOv9 (Wang et al., 2024, https://arxiv.org/abs/2402.13616): 2D channels to D."""

    def __init__(self, config: HybridEncoderConfig) -> None:
        super().__init__()
        wide, mid, act = 2 * config.hidden_dim, config.mid_channels, config.act_cfg
        self.cv1 = ConvNorm(wide, wide, act_cfg=act)
        self.cv2, self.cv3 = (
            nn.Sequential(CSPLayer(channels, mid, config.num_blocks, act), ConvNorm(mid, mid, 3, act_cfg=act))
            for channels in (wide // 2, mid)
        )
        self.cv4 = ConvNorm(wide + 2 * mid, config.hidden_dim, act_cfg=act)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.cv1(x)
        second = self.cv2(whole.chunk(2, dim=1)[1])
        out: Tensor = self.cv4(torch.cat([whole, second, self.cv3(second)], dim=1))
        return out


class TransformerEncoderLayer(nn.Module):
    """Self-attention and two linear layers, each normalised after its shortcut. Tokens (B, N, D) to the same."""

    def __init__(self, config: HybridEncoderConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.self_attn = nn.MultiheadAttention(dim, config.nhead, config.dropout, batch_first=True)
        self.linear1 = nn.Linear(dim, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        q = x + positions
        attended = self.self_attn(q, q, x, key_padding_mask=padding, need_weights=False)[0]
        x = self.norm1(x + self.dropout(attended))
        fed = self.linear2(self.dropout(F.gelu(self.linear1(x))))
        out: Tensor = self.norm2(x + self.dropout(fed))
        return out


class TransformerEncoder(nn.Module):
    """The transformer layers of one map."""

    def __init__(self, config: HybridEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerEncoderLayer(config) for _ in range(config.num_encoder_layers))

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions, padding)
        return x


class HybridEncoder(Neck):
    """Attention within the coarsest maps (AIFI), then fusion across scales (CCFM)."""

    def __init__(self, config: HybridEncoderConfig) -> None:
        super().__init__()
        dim, levels = config.hidden_dim, len(config.in_channels)
        self.hidden_dim, self.temperature = dim, config.pe_temperature
        self.use_encoder_idx = tuple(index % levels for index in config.use_encoder_idx)
        self.input_proj = nn.ModuleList(projection(channels, dim) for channels in config.in_channels)
        self.encoder = nn.ModuleList(TransformerEncoder(config) for _ in config.use_encoder_idx)
        self.lateral_convs = nn.ModuleList(config.make_lateral() for _ in range(levels - 1))
        self.fpn_blocks = nn.ModuleList(config.make_fusion() for _ in range(levels - 1))
        self.downsample_convs = nn.ModuleList(config.make_downsample() for _ in range(levels - 1))
        self.pan_blocks = nn.ModuleList(config.make_fusion() for _ in range(levels - 1))

    def forward(
        self, features: tuple[Tensor, ...], padding: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, ...]:
        """The fused maps.

        Args:
            features: One (B, C_i, H_i, W_i) a level.
            padding: For each level (B, H_i, W_i) bool, True where a cell is beyond its image; None: none is.
        """
        maps = [project(x) for project, x in zip(self.input_proj, features, strict=True)]
        for index, encoder in zip(self.use_encoder_idx, self.encoder, strict=True):
            hidden = None if padding is None else padding[index].flatten(1)
            maps[index] = self._attended(encoder, maps[index], hidden)
        return self._fused(maps)

    def _attended(self, encoder: nn.Module, x: Tensor, padding: Tensor | None) -> Tensor:
        height, width = x.shape[-2:]
        positions = sine_positions(height, width, self.hidden_dim, self.temperature).to(x)
        out: Tensor = encoder(tokens(x), positions, padding)
        return out.transpose(1, 2).reshape_as(x)

    def _fused(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        down = [maps[-1]]
        for fine, lateral, block in zip(maps[-2::-1], self.lateral_convs, self.fpn_blocks, strict=True):
            down[0] = lateral(down[0])
            larger = F.interpolate(down[0], scale_factor=2.0, mode="nearest")
            down.insert(0, block(torch.cat([larger, fine], dim=1)))
        up = [down[0]]
        for coarse, smaller, block in zip(down[1:], self.downsample_convs, self.pan_blocks, strict=True):
            up.append(block(torch.cat([smaller(up[-1]), coarse], dim=1)))
        return tuple(up)
