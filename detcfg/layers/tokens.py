"""Feature maps as rows of tokens, for attention."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor


def tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W, C), by rows.

    The gradient goes back with its channels apart, as the map had them. torch 2.14.1's batch norm on the CPU takes a gradient
    whose channels lie side by side for another one where the batch has a single image
    (`findings/torch_batch_norm_gradient_of_one_image.sh`).
    """
    flat = x.flatten(2)
    if flat.requires_grad:
        cast("Any", flat).register_hook(Tensor.contiguous)  # torch leaves it untyped
    return flat.transpose(1, 2)
