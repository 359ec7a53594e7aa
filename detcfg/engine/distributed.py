"""The ranks that train one model together: their process group and its collectives.

Without a process group, everything here works as with one rank.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import uuid4

import torch
import torch.distributed as dist
from attrs import frozen
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

INIT_TIMEOUT: Final = timedelta(minutes=5)
"""How long ranks wait for one another to join the process group; then they fail, and torchrun may restart them."""
COLLECTIVE_TIMEOUT: Final = timedelta(minutes=30)
"""How long a collective waits for all ranks: one of them may be writing to a slow disk."""


def is_distributed() -> bool:
    """Whether there is a process group."""
    return dist.is_available() and dist.is_initialized()


@frozen
class Attempt:
    """What the ranks know of those that torchrun started before them, if it did."""

    is_restart: bool = False
    """Whether this run was begun by earlier ranks, which failed."""
    _store: Store | None = None

    def begin(self) -> None:
        """From here on, ranks that torchrun starts in place of these resume their run."""
        if self._store is not None:
            self._store.set("begun", "")


@contextmanager
def process_group() -> Generator[Attempt]:
    """Within it, this process is a rank of the group that `torchrun` or `--devices` started, if they did.

    Which one it is is in the environment, under torchrun's names (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`).

    Raises:
        RunError: The ranks do not find each other within `INIT_TIMEOUT`.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Attempt()
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store, part = _meeting_place(rank, size)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=part, rank=rank, world_size=size, timeout=INIT_TIMEOUT)
    c10d: Any = dist.distributed_c10d
    set_timeout = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout  # noqa: SLF001  # its name until 2.13
    set_timeout(COLLECTIVE_TIMEOUT)
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            is_restart = broadcast_from_rank0(store.check(["begun"]))
        else:  # the store is as new as the processes
            is_restart = max(all_gather(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))) > 0
        yield Attempt(is_restart, store)
    finally:
        dist.destroy_process_group()


def _meeting_place(rank: int, world_size: int) -> tuple[Store, Store]:
    """A store that all ranks reach, and the part of it that is theirs.

    Raises:
        RunError: One of them did not come.
    """
    from detcfg.engine.files import RunError

    untyped: Any = dist
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store: Store = next(untyped.rendezvous("env://", timeout=INIT_TIMEOUT))[0]
        return store, unused_part(store, rank, world_size)
    except (dist.DistError, TimeoutError) as error:
        raise RunError(
            f"The processes that train together did not meet at {where} within {INIT_TIMEOUT}: {error}\n"
            "Is each of them started, and can this address be reached from each machine?"
        ) from None


def unused_part(store: Store, rank: int, world_size: int) -> Store:
    """The same part of a store for all ranks, in which no earlier group has written.

    torchrun keeps its store when it restarts a group (torch/distributed/elastic/rendezvous/
    dynamic_rendezvous.py). What the earlier group wrote is then read by the new one: a rank waits forever at
    the address of a dead one. Nothing that torchrun hands its ranks is the same on all machines and
    different for each restart, so rank 0 makes up a name, and answers the others as they come.

    Args:
        store: Where the ranks meet.
        rank: Of this process.
        world_size: The number of ranks.

    Raises:
        TimeoutError: Rank 0 did not see all others within `INIT_TIMEOUT`.
        DistStoreError: Another rank did not see rank 0.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    mine = uuid4().hex
    if rank == 0:
        until = time.monotonic() + INIT_TIMEOUT.total_seconds()
        absent = list(range(1, world_size))
        while absent := [other for other in absent if not store.check([f"{mine}/{other}"])]:
            # Who asks as a rank may belong to the earlier group: all are answered, until one confirms.
            for other in absent:
                if store.check([f"{other} asks"]):
                    store.set(f"to {store.get(f'{other} asks').decode()}", mine)
            if time.monotonic() > until:
                raise TimeoutError(
                    f"{len(absent)} of {world_size} did not come, rank {absent[0]} among them."
                )
            time.sleep(0.01)
        return PrefixStore(mine, store)
    store.set(f"{rank} asks", mine)
    name = store.get(f"to {mine}").decode()
    store.set(f"{name}/{rank}", "")
    return PrefixStore(name, store)


def rank() -> int:
    """The rank of this process, from 0 on; rank 0 writes files and the log."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of ranks."""
    return dist.get_world_size() if is_distributed() else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum of a tensor over the ranks, in each of them; the tensor itself stays as it is."""
    summed = values.clone()
    if is_distributed():
        dist.all_reduce(summed)
    return summed


def all_gather(value: T) -> list[T]:
    """The values of all ranks, by rank; they are pickled."""
    if not is_distributed():
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


def any_rank(flag: bool, device: torch.device) -> bool:  # noqa: FBT001 - it reads like any()
    """Whether it holds on any rank."""
    return bool(all_reduce_sum(torch.tensor(int(flag), device=device)))


def broadcast_from_rank0(value: T) -> T:
    """The value of rank 0, on all ranks; it is pickled."""
    if not is_distributed():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def wrap_ddp(model: nn.Module) -> nn.Module:
    """The model in `DistributedDataParallel`, which averages its gradients over the ranks; alone, the model itself."""
    if not is_distributed():
        return model
    from torch.nn.parallel import DistributedDataParallel

    # Buffers are for `share_buffers`; until torch 2.13 the option was called otherwise.
    new, old = "forward_sync_buffers", "broadcast_buffers"
    options: dict[str, Any] = {new if new in signature(DistributedDataParallel).parameters else old: False}
    return DistributedDataParallel(model, **options)


def share_buffers(model: nn.Module) -> None:
    """Copy the buffers of rank 0 to all ranks, such as the running statistics of batch norms.

    To be called after each step, so that the validation, too, computes with the same on each rank.
    """
    if not is_distributed():
        return
    by_kind: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for buffer in model.buffers():
        by_kind.setdefault((buffer.dtype, buffer.device), []).append(buffer.detach())
    for buffers in by_kind.values():  # one broadcast for all of a kind
        joined = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(joined, src=0)
        for buffer, values in zip(buffers, torch.split(joined, [b.numel() for b in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))


def synchronised(model: nn.Module, *, when: bool) -> AbstractContextManager[object]:
    """Within it, backward passes average the gradients over the ranks if `when`, and else only add them up locally."""
    # A sharded model has no `no_sync`: it could not hold the gradients of all parameters.
    return nullcontext() if when or not hasattr(model, "no_sync") else cast("Any", model).no_sync()


def device_of(name: str) -> torch.device:
    """The device that a config names; `auto`: the GPU of this process's local rank if there are GPUs, else the CPU.

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
    """The rank of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))
