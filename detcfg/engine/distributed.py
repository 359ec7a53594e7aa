"""Processes that train one model together: who is who, and what they tell each other.

Everything here works alone too, as the only process.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from inspect import signature
from typing import Any, Final, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

MEETING: Final = timedelta(minutes=5)
"""How long processes wait for one another to begin. Now and then gloo's connections get lost after a restart; a
process that gives up is started again."""
WORKING: Final = timedelta(minutes=30)
"""How long they wait for one another later, when one of them writes to a slow disk, say."""


def together() -> bool:
    """Whether other processes take part."""
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group() -> Generator[None]:
    """Within it this process is one of those that `torchrun` or `--devices` started, if they did.

    Which one it is stands in the environment, under torchrun's names.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=MEETING)
    c10d: Any = dist.distributed_c10d
    set_timeout = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout  # noqa: SLF001  # its name until 2.13
    set_timeout(WORKING)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_restarted() -> bool:
    """Whether torchrun started this process in the place of one that failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def rank() -> int:
    """Which process this is; 0 writes files and talks to the person."""
    return dist.get_rank() if together() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if together() else 1


def total(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    summed = values.clone()
    if together():
        dist.all_reduce(summed)
    return summed


def gathered(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if not together():
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


def anywhere(flag: bool, device: torch.device) -> bool:  # noqa: FBT001 - it reads like any()
    """Whether it holds in any of the processes."""
    return bool(total(torch.tensor(int(flag), device=device)))


def from_first(value: T) -> T:
    """The value of the first process, in all of them."""
    if not together():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def wrapped(model: nn.Module) -> nn.Module:
    """The model as it is called in training: its gradients are averaged over the processes."""
    if not together():
        return model
    from torch.nn.parallel import DistributedDataParallel

    # Buffers are for `share_buffers`; until torch 2.13 the option was called otherwise.
    new, old = "forward_sync_buffers", "broadcast_buffers"
    options: dict[str, Any] = {new if new in signature(DistributedDataParallel).parameters else old: False}
    return DistributedDataParallel(model, **options)


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers: the running statistics of batch norms, say.

    After each step, so that whatever comes next, the validation too, computes with the same.
    """
    if not together():
        return
    alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for buffer in model.buffers():
        alike.setdefault((buffer.dtype, buffer.device), []).append(buffer.detach())
    for buffers in alike.values():
        joined = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(joined, src=0)
        for buffer, values in zip(buffers, torch.split(joined, [b.numel() for b in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))


def synchronised(model: nn.Module, *, when: bool) -> AbstractContextManager[object]:
    """Within it, backward passes average the gradients over the processes only `when` it is said."""
    # A model whose parameters are cut has no `no_sync`: it could not hold the whole gradients.
    return nullcontext() if when or not hasattr(model, "no_sync") else cast("Any", model).no_sync()


def device_of(name: str) -> torch.device:
    """The device that a config names: `auto` is a GPU of this process's own if there is one.

    Raises:
        RunError: There is no such device.
    """
    from detcfg.engine.files import RunError

    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RunError(f"trainer.device={name!r} is no device. Give auto, cpu, cuda or cuda:1.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(
            f"trainer.device={name!r}, but {torch.cuda.device_count()} GPUs are to be seen. Set it to auto."
        )
    return device


def local_rank() -> int:
    """Which process of this machine this is, as torchrun says."""
    return int(os.environ.get("LOCAL_RANK", "0"))
