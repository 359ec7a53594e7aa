"""What half precision would blur: autocast computes around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import attrs
import torch
from torch import Tensor

HALF: Final = (torch.bfloat16, torch.float16)


def in_full_precision(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`layer(x)` without autocast.

    For the last layers of a proposal or RoI head. What they say is a logit, or is scaled to boxes of hundreds of
    pixels, of which bf16 keeps 8 bits: a pixel or two. They are small, so it costs next to nothing.

    Args:
        layer: Its parameters are float32, or float64 as its input.
        x: Of any shape that the layer takes; half precision becomes float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layer(widened(x))


def widened(value: Any) -> Any:
    """The same with each tensor of half precision as float32, within tuples, lists and attrs classes too."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if isinstance(value, tuple | list):
        items = cast("tuple[object, ...] | list[object]", value)
        return type(items)(widened(item) for item in items)
    kind: Any = type(value)
    if attrs.has(kind):
        return attrs.evolve(
            value, **{name: widened(getattr(value, name)) for name in attrs.fields_dict(kind)}
        )
    return value
