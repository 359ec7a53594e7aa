"""How a contract is held, and the objects that most are tried on."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from detcfg.config import Config
from detcfg.errors import DetcfgError
from detcfg.structures import Targets

SIZE: Final = (192, 256)
"""(height, width) of images, in pixels."""


class ContractError(DetcfgError, AssertionError):
    """A component does something else than the base of its kind promises."""


def expect(config: Config, what: str, *, holds: bool) -> None:
    if not holds:
        raise ContractError(f"{type(config).__name__}: {what}")


def expect_tensor(
    config: Config, name: str, value: object, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    found = (
        f"a tensor of shape {tuple(value.shape)} and {value.dtype} on {value.device}"
        if isinstance(value, Tensor)
        else repr(value)
    )
    expect(
        config,
        f"{name} has to be a tensor of shape {shape} and {dtype} on cpu, and is {found}",
        holds=isinstance(value, Tensor)
        and tuple(value.shape) == shape
        and value.dtype == dtype
        and value.device.type == "cpu",
    )


def boxes_at_random(count: int) -> Tensor:
    """(count, 4) of 8 to 72 pixels a side, within the image."""
    corners = torch.rand(count, 2) * torch.tensor([SIZE[1] - 72.0, SIZE[0] - 72.0])
    return torch.cat([corners, corners + 8 + 64 * torch.rand(count, 2)], dim=1)


def targets_at_random(count: int) -> Targets:
    """So many objects, of which the last is ignored where there are several."""
    ignored = torch.arange(count) == count - 1 if count > 1 else None
    return Targets(boxes=boxes_at_random(count), labels=torch.arange(count) % 3, ignored=ignored)


def masks_of(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) bool: masks that fill their boxes (N, 4), in an image of (height, width)."""
    y, x = torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    return ((y > y1) & (y < y2))[:, :, None] & ((x > x1) & (x < x2))[:, None, :]
