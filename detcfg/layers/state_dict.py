"""How the tensors of a checkpoint fit a module, by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen
from torch import Tensor, nn

SHOWN: Final = 3
"""Names of a kind that a line for the log gives."""


@frozen(kw_only=True)
class StateDictMatch:
    """Which tensors of a checkpoint fit a module. `str()` of it is a line for the log.

    What becomes of those that do not fit is the caller's policy.
    """

    matched: tuple[str, ...]
    """Tensors that both have, in one shape."""
    missing: tuple[str, ...]
    """The module's tensors that the checkpoint lacks."""
    unexpected: tuple[str, ...]
    """The checkpoint's tensors that the module lacks."""
    mismatched: tuple[str, ...]
    """Tensors that both have, in different shapes."""
    shapes: tuple[str, ...] = ()
    """For each mismatched tensor its shape in the checkpoint and in the module: `3x8 for 5x8`."""

    @classmethod
    def of(cls, module: nn.Module, tensors: Mapping[str, Tensor]) -> StateDictMatch:
        """Compare the state dict of a module with the tensors of a checkpoint.

        `num_batches_tracked`, which old checkpoints lack and which nothing computes with, is never missing.
        """
        own = module.state_dict()
        common = [name for name in own if name in tensors]
        mismatched = [name for name in common if own[name].shape != tensors[name].shape]
        return cls(
            matched=tuple(name for name in common if own[name].shape == tensors[name].shape),
            missing=tuple(
                name for name in own if name not in tensors and not name.endswith("num_batches_tracked")
            ),
            unexpected=tuple(name for name in tensors if name not in own),
            mismatched=tuple(mismatched),
            shapes=tuple(f"{_shape(tensors[name])} for {_shape(own[name])}" for name in mismatched),
        )

    @property
    def complete(self) -> bool:
        """Whether each side has what the other has, in its shape."""
        return not (self.missing or self.unexpected or self.mismatched)

    def load(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Copy what matched into the module; the rest of it stays as it is."""
        module.load_state_dict({name: tensors[name] for name in self.matched}, strict=False)

    def __str__(self) -> str:
        other = [f"{name}: {shapes}" for name, shapes in zip(self.mismatched, self.shapes, strict=True)]
        return ", ".join(
            (
                f"{len(self.matched)} tensors match",
                _counted("missing", self.missing),
                _counted("unexpected", self.unexpected),
                _counted("of another shape", other),
            )
        )


def _counted(what: str, names: tuple[str, ...] | list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}" + (f" ({', '.join(names[:SHOWN])}{rest})" if names else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
