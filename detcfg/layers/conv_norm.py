"""A convolution and its norm, named as the real-time transformers have them."""

from __future__ import annotations

from torch import Tensor, nn

from detcfg.layers.activation import ActivationConfig
from detcfg.layers.fold import conv_norm
from detcfg.layers.norm import BNConfig, NormConfig

BN = BNConfig()


class ConvNorm(nn.Module):
    """Convolution, norm and perhaps an activation, by `conv` and `norm`; stride 1 keeps the size.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel_size: Side of the square kernel, odd.
        stride: Input pixels from one output pixel to the next.
        groups: Groups of channels that do not see each other.
        norm_cfg: The norm.
        act_cfg: The activation; None: none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm_cfg: NormConfig = BN,
        act_cfg: ActivationConfig | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.norm = norm_cfg.build_for(out_channels)
        self.act = nn.Identity() if act_cfg is None else act_cfg.build()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(conv_norm(self.conv, self.norm, x))
        return out
