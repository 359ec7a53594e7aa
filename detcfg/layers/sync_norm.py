"""A batch norm over the batches of all processes, on the CPU too."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm(nn.BatchNorm2d):
    """Normalises by the mean and the variance of the batches of all processes.

    On a GPU by the operation of torch's module. That one is not inherited from: it refuses tensors on the
    CPU, and DistributedDataParallel refuses a model on the CPU that has it. On the CPU, the sums over the batch
    and over its squares are added up over the processes, by an operation that goes back as it came: the
    gradient of a sum is the sum of the gradients.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is torch's
        if not (
            self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        ):
            return super().forward(input)
        return self._on_cpu(input) if input.device.type == "cpu" else self._on_gpu(input)

    def _on_gpu(self, x: Tensor) -> Tensor:
        from torch.nn.modules._functions import SyncBatchNorm as Normalise

        share = self._share()
        normalise: Any = Normalise.apply
        normalised: Tensor = normalise(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            share,
            dist.group.WORLD,
            dist.get_world_size(),
        )
        return normalised

    def _on_cpu(self, input: Tensor) -> Tensor:  # noqa: A002
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
        share = self._share()
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)

    def _share(self) -> float:
        """Count a batch; how much of the running statistics it becomes."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1 / float(self.num_batches_tracked)
        return self.momentum or 0.0

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
