"""What MMDetection's models are made of, from the golden files."""

from __future__ import annotations

from torch import nn

from tests.support import figures

Shapes = dict[str, tuple[int, ...]]


def golden_shapes(name: str, prefix: str) -> Shapes:
    """Names and shapes of the tensors of one part (`backbone`, `neck`) of a golden's model."""
    tensors: dict[str, list[int]] = figures.model(name)["state_dict"]
    start = f"{prefix}."
    return {key.removeprefix(start): tuple(v) for key, v in tensors.items() if key.startswith(start)}


def shapes(module: nn.Module) -> Shapes:
    """Names and shapes of the tensors of a module."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
