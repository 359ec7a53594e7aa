"""A batch norm over the batches of all processes, on the CPU too."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's, which refuses tensors on the CPU as soon as there are other processes.

    There, the sums over the batch and over its squares are added up over the processes, by an operation
    that goes back as it came: the gradient of a sum is the sum of the gradients.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is torch's
        if not (
            self.training and input.device.type == "cpu" and dist.is_available() and dist.is_initialized()
        ):
            return super().forward(input)
        x = input.float()
        others = [d for d in range(x.ndim) if d != 1]
        count = x.new_full((1,), x.numel() / x.shape[1])
        # About a mean that all agree on already, so that no digits are lost in the squares.
        middle = self.running_mean if self.running_mean is not None else x.new_zeros(x.shape[1])
        shifted = x - self._along(middle.detach().clone(), x)
        sums = torch.cat([shifted.sum(others), shifted.square().sum(others), count])
        total, squares, n = torch.split(_total(sums), [x.shape[1], x.shape[1], 1])
        mean = total / n
        variance = (squares / n - mean.square()).clamp(min=0)
        self._note(mean.detach() + middle, variance.detach() * (n.detach() / (n.detach() - 1).clamp(min=1)))
        out = (shifted - self._along(mean, x)) * self._along(torch.rsqrt(variance + self.eps), x)
        if self.affine:
            out = out * self._along(self.weight, x) + self._along(self.bias, x)
        return out.to(input.dtype)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor) -> None:
        """Take the batch into the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    @staticmethod
    def _along(values: Tensor, x: Tensor) -> Tensor:
        """(C,) beside (N, C, ...)."""
        return values.view(1, -1, *(1 for _ in x.shape[2:]))


class _Total(torch.autograd.Function):
    """The sum over the processes, both ways."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


def _total(values: Tensor) -> Tensor:
    return cast("Tensor", cast("Any", _Total).apply(values))
