"""The inverse of sorting rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def unsort(rows: Tensor, order: Tensor) -> Tensor:
    """`unsort(values[order], order)` is `values`, for a permutation `order` (R,) and any (R, ...).

    The gradient is a selection too, where that of an index would be a sum over all rows that it might
    have taken twice.
    """
    unsorted: Tensor = _Unsort.apply(rows, order)
    return unsorted


class _Unsort(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(0, order.argsort())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return gradients[0].index_select(0, order), None
