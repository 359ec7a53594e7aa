"""Computing in half precision where that is safe."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch

if TYPE_CHECKING:
    from torch import nn

Amp: TypeAlias = Literal["none", "bf16", "fp16"]
_HALF: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(model: nn.Module, amp: Amp) -> AbstractContextManager[object]:
    """What a model computes inside is in half precision where that is safe; none: all of it is as it is."""
    if amp == "none":
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, _HALF[amp])
