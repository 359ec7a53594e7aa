"""A convolution and the batch norm after it as one convolution.

A batch norm in evaluation mode is a fixed scale and shift of each channel, and a convolution is
linear: `norm(conv(x))` is a convolution with scaled weights. That saves an operation over the whole
feature map and, in training, the memory that it keeps for the backward pass. The fold is made of
differentiable operations on the (small) weights, so every gradient stays the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(conv(x))`, in one convolution where that is exact.

    It is where `conv` is an ordinary convolution and `norm` a batch norm that uses its running
    statistics. Anything else is computed as written.
    """
    if not _folds(conv, norm):
        out: Tensor = norm(conv(x))
        return out
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    weight, bias = folded(conv, norm)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def in_a_row(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """`x` through `layers`, each convolution and the norm right behind it as one where that is exact."""
    conv: nn.Module | None = None
    for layer in layers:
        if conv is not None:
            x = conv_norm(conv, layer, x)
            conv = None
        elif isinstance(layer, nn.Conv2d):
            conv = layer
        else:
            x = layer(x)
    return x if conv is None else conv(x)


class ConvSequential(nn.Sequential):
    """Layers in a row, each convolution and the norm right behind it as one where that is exact."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Sequential's
        return in_a_row(self, input)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weight (O, I, H, W) and the bias (O,) of the one convolution."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    shift = shift * scale
    if norm.affine:
        shift = shift + norm.bias
    return conv.weight * scale.view(-1, 1, 1, 1), shift


def _folds(conv: nn.Module, norm: nn.Module) -> bool:
    return (
        type(conv) is nn.Conv2d  # a subclass computes something else
        and conv.padding_mode == "zeros"
        and isinstance(norm, nn.BatchNorm2d)
        and not norm.training
        and norm.track_running_stats
    )
