"""The limit of a piece of work: its matmuls and convolutions run alone, on the same shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detcfg.benchmark.measure import timed

PRODUCTS: Final = (
    "aten::convolution",
    "aten::convolution_backward",
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "aten::baddbmm",
    # Inference mode calls these, without decomposing them:
    "aten::conv2d",
    "aten::linear",
    "aten::matmul",
)
"""The operators that count; those of the backward pass are among them."""

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Records each matmul and convolution with the shapes of its inputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func.name().partition(".")[0] in PRODUCTS:
            shapes = {name: _on_meta(value) for name, value in named.items()}
            self.calls.append((func, tuple(_on_meta(value) for value in args), shapes))
        return func(*args, **named)


def products_of(task: Callable[[], object]) -> list[Call]:
    """Run a task; its matmuls and convolutions, forward and backward, without their values."""
    with (recorder := _Recorder()):
        task()
    return recorder.calls


def bare_seconds(calls: Sequence[Call], device: torch.device) -> float:
    """The seconds that matmuls and convolutions take alone, each on values made beforehand."""
    total = 0.0
    with torch.no_grad():
        for func, args, kwargs in calls:
            inputs = tuple(_filled(value, device) for value in args)
            named = {name: _filled(value, device) for name, value in kwargs.items()}
            total += timed(partial(func, *inputs, **named), device)
    return total


def _on_meta(value: Any) -> Any:
    """The shape, strides and type of a tensor."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return value


def _filled(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    # A stride of 0 repeats a value, as gradients of sums do.
    once = [1 if stride == 0 else size for size, stride in zip(value.shape, value.stride(), strict=True)]
    made = torch.empty_strided(once, value.stride(), dtype=value.dtype, device=device)
    return (made.uniform_(-1, 1) if made.is_floating_point() else made.zero_()).expand(value.shape)
