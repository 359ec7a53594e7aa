"""Where half precision is not precise enough: out of autocast, and in float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, cast

import attrs
import torch
from torch import Tensor

HALF: Final = (torch.bfloat16, torch.float16)


def in_full_precision(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`layer(x)` without autocast.

    For the last layers of a proposal or RoI head. Their outputs are logits, or deltas that are scaled to boxes of
    hundreds of pixels, of which bf16 keeps 8 bits: a pixel or two. They are small, so it costs next to nothing.

    Args:
        layer: Its parameters are float32, or float64 as its input.
        x: Of any shape that the layer takes; half precision becomes float32.
    """
    with without_autocast(x):
        return layer(widened(x))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast on the device of `x`: operators compute in the precision of their inputs."""
    if not torch.amp.is_autocast_available(x.device.type):  # such as meta
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def widened(value: Any) -> Any:
    """`value` with float32 for half precision: a tensor, or a tuple, list, dict or attrs class of tensors."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if type(value) is tuple or type(value) is list:
        items = cast("tuple[object, ...] | list[object]", value)
        return type(items)(widened(item) for item in items)
    if type(value) is dict:
        return {key: widened(item) for key, item in cast("dict[object, object]", value).items()}
    if attrs.has(value.__class__):
        names = attrs.fields_dict(value.__class__)
        return attrs.evolve(value, **{name: widened(getattr(value, name)) for name in names})
    return value
