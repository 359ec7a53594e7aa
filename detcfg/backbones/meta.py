"""Other libraries' models without their weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

NUMBERS: Final = (torch.arange, torch.linspace, torch.tensor)
"""Functions that models call to compute plain numbers from."""
FILLS: Final = (torch.Tensor.normal_, torch.Tensor.uniform_)
"""Methods that draw weights. On the meta device PyTorch runs them in Python, and loads its compiler to do so."""


class _WithoutWeights(TorchFunctionMode):
    """Keeps `NUMBERS` off the default device, and leaves weights there undrawn."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in FILLS and args[0].is_meta:
            return args[0]
        given = dict(kwargs or {})
        if func in NUMBERS:
            given.setdefault("device", "cpu")
        return func(*args, **given)


@contextmanager
def weights_on_meta() -> Generator[None]:
    """Make models whose weights take no memory, though they read numbers out of small tensors."""
    with warnings.catch_warnings(), torch.device("meta"), _WithoutWeights():
        warnings.simplefilter("ignore")
        yield
