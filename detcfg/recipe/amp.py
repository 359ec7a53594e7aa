"""Automatic mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import nn

Amp: TypeAlias = Literal["none", "bf16", "fp16"]


def autocast(model: nn.Module, amp: Amp) -> AbstractContextManager[object]:
    """Within it, a model computes in half precision where that is safe; `none`: in the precision of its weights."""
    import torch  # here, so that `--help` can name the choices without it

    if amp == "none":
        return nullcontext()
    half = torch.bfloat16 if amp == "bf16" else torch.float16
    return torch.autocast(next(model.parameters()).device.type, half)
