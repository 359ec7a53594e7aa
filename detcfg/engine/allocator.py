"""Memory on the CPU that one step leaves to the next."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final

from detcfg.engine.distributed import device_of

if TYPE_CHECKING:
    import torch

    from detcfg.recipe.config import TrainerConfig

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4


def prepared_device(config: TrainerConfig) -> torch.device:
    """The device that a config names, whose freed memory the process keeps if the config says so.

    Raises:
        RunError: There is no such device.
    """
    device = device_of(config.device)
    if config.keep_memory:
        keep_freed_memory(device)
    return device


def keep_freed_memory(device: torch.device) -> None:
    """Have the process keep what it frees on the CPU, for what it allocates next.

    glibc returns each large block to the system when it is freed, and the system fills it with zeros when it
    is asked for again: a feature map at a time, a sixth of a training step in all. What is kept can only be
    as large as the most that was in use, and the gaps between. Nothing changes with another C library, or
    where `device` is no CPU.
    """
    if device.type != "cpu" or not _is_glibc():
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap
    mallopt(M_TRIM_THRESHOLD, -1)  # which never shrinks


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):  # another system, another C library
        return False
