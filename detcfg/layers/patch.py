"""Patches of an image or a feature map as tokens (mmdet/models/layers/transformer/utils.py).

Tokens are (B, H, W, C) here: channels last, and the grid is kept.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.layers.norm import NormConfig


def corner_padded(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """(B, C, H, W) with zeros at the right and the bottom, for ceil(H / stride) x ceil(W / stride) patches."""
    height, width = (max((-(-side // stride) - 1) * stride + kernel_size - side, 0) for side in x.shape[2:])
    return F.pad(x, (0, width, 0, height)) if height or width else x


class PatchEmbed(nn.Module):
    """A strided convolution: (B, in_channels, H, W) to (B, H / stride, W / stride, embed_dims).

    Args:
        in_channels: Channels of the image or feature map.
        embed_dims: Channels of a token.
        kernel_size: Side of a patch.
        stride: Pixels from one patch to the next.
        padding: Zeros at each side, or as many as needed at the right and the bottom ("corner").
        norm_cfg: The norm behind it, or None.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        kernel_size: int,
        *,
        stride: int,
        padding: int | Literal["corner"] = "corner",
        norm_cfg: NormConfig | None = None,
    ) -> None:
        super().__init__()
        self.corner = (kernel_size, stride) if padding == "corner" else None
        self.projection = nn.Conv2d(
            in_channels, embed_dims, kernel_size, stride=stride, padding=0 if padding == "corner" else padding
        )
        self.norm = None if norm_cfg is None else norm_cfg.build_for(embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        if self.corner is not None:
            x = corner_padded(x, *self.corner)
        tokens: Tensor = self.projection(x).permute(0, 2, 3, 1)
        return tokens if self.norm is None else self.norm(tokens)


class PatchMerging(nn.Module):
    """Neighbouring tokens to one: (B, H, W, in_channels) to (B, H / stride, W / stride, out_channels).

    Args:
        in_channels: Channels of a token.
        out_channels: Channels of a merged one.
        kernel_size: Side of the square of tokens that become one.
        stride: Tokens from one square to the next.
        norm_cfg: The norm of the tokens side by side, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 2,
        stride: int = 2,
        norm_cfg: NormConfig | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        together = in_channels * kernel_size**2
        self.norm = None if norm_cfg is None else norm_cfg.build_for(together)
        self.reduction = nn.Linear(together, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = corner_padded(x.permute(0, 3, 1, 2), self.kernel_size, self.stride)
        # (B, C, H', W', k, k): a channel's tokens lie side by side, as `nn.Unfold` has them.
        squares = padded.unfold(2, self.kernel_size, self.stride).unfold(3, self.kernel_size, self.stride)
        together = squares.permute(0, 2, 3, 1, 4, 5).flatten(3)
        merged: Tensor = self.reduction(together if self.norm is None else self.norm(together))
        return merged
