"""Activation (gradient) checkpointing; MMDetection's `with_cp`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils import checkpoint


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, computed again in the backward pass rather than kept."""
    out: Tensor = checkpoint.checkpoint(function, x, use_reentrant=False)  # pyright: ignore[reportUnknownMemberType]
    return out
