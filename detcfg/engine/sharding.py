"""Weights, gradients and the optimizer's state cut among the processes that train together (FSDP2).

Each process keeps a slice of every parameter, along its first dimension. A unit's parameters are whole
only while it computes: fetched from the others before, let go after. Units are found by shape, not by
name: whatever stands in a list of the backbone (a stage's blocks), such things inside it once more, and
the neck. All else, heads mostly, is whole from a step's forward pass to the end of its backward pass.

See https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.engine import distributed
from detcfg.engine.files import RunError
from detcfg.engine.sharded_checkpoint import dcp

LISTS = (nn.ModuleList, nn.Sequential)


def units(module: nn.Module, depth: int = 2) -> Iterator[nn.Module]:
    """The parts in a module's lists that have parts themselves, inner ones first.

    Args:
        module: A backbone, say.
        depth: How many such parts may lie within each other: for Swin, a block within a stage.
    """
    for child in module.children():
        if depth > 0 and isinstance(module, LISTS) and not isinstance(child, LISTS) and _is_composite(child):
            yield from units(child, depth - 1)
            yield child
        elif isinstance(child, LISTS):
            yield from units(child, depth)


@frozen
class Shards:
    """A model whose parameters are cut among the processes."""

    model: nn.Module
    scalars: frozenset[str]
    """Parameters without dimensions, by name. Such a one cannot be cut, so it has two of size 1 for the time:
    what it is multiplied with has more, and no rule for parameters of one dimension takes it for one."""

    @classmethod
    def of(cls, model: nn.Module) -> Shards:
        """Cut the parameters of a model, in place; its buffers stay whole. Alone, nothing is cut.

        Raises:
            RunError: This torch cannot do it.
        """
        scalars = frozenset(name for name, parameter in model.named_parameters() if parameter.ndim == 0)
        for parameter in model.parameters():
            flat = parameter.data.reshape(1, 1) if parameter.ndim == 0 else parameter.data
            parameter.data = flat.contiguous()
        fully_shard = _fully_shard()
        if distributed.is_distributed():
            backbone, neck = (getattr(model, name, None) for name in ("backbone", "neck"))
            parts = list(units(backbone)) if isinstance(backbone, nn.Module) else []
            parts += [neck] if isinstance(neck, nn.Module) and _is_composite(neck) else []
            for part in [*parts, model]:
                fully_shard(part)
            _tell_parts(model)
        return cls(model, scalars)

    @contextmanager
    def whole(self) -> Generator[None]:
        """Within it, each process has all parameters: it may compute without the others, by any method."""
        from torch.distributed.fsdp import FSDPModule

        model = self.model
        if not isinstance(model, FSDPModule):
            yield
            return
        parts: list[Any] = [part for part in self.model.modules() if isinstance(part, FSDPModule)]
        for part in parts:  # the model itself comes first, and tells the others what they belong to
            part.set_reshard_after_forward(reshard_after_forward=False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.set_reshard_after_forward(reshard_after_forward=part is not model, recurse=False)
                part.reshard()

    def state(self) -> dict[str, Tensor]:
        """The state as if nothing had ever been cut; the first process has it, the others have nothing.

        All of them have to ask for it together.
        """
        return {
            name: tensor.reshape(()) if name in self.scalars else tensor
            for name, tensor in gathered(self.model.state_dict()).items()
        }


def gathered(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that may be cut as whole ones, on the CPU of the first process; the others have nothing."""
    from torch.distributed.tensor import DTensor

    joined: dict[str, Tensor] = {}
    for name, tensor in state.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if distributed.rank() == 0:  # one at a time, so that a device has room for it
            joined[name] = full.detach().cpu()
    return joined


def _fully_shard() -> Callable[[nn.Module], object]:
    if not hasattr(dcp(), "HuggingFaceStorageWriter"):
        raise RunError(
            f"trainer.sharding='fsdp' needs torch 2.9 or newer, and this is {torch.__version__}. "
            "Install a newer one, or set trainer.sharding=none."
        )
    from torch.distributed.fsdp import fully_shard

    return fully_shard


def _tell_parts(model: Any) -> None:
    """Let the parts of a model know what they belong to.

    They would learn it in its first forward pass, and take themselves for models if they are called before:
    a run that goes on may begin with a validation.
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    def nothing() -> None: ...

    model.nothing = nothing
    register_fsdp_forward_method(model, "nothing")
    model.nothing()
    del model.nothing
    model.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor that may be cut."""
    from torch.distributed.tensor import DTensor

    own: Tensor = cast("Any", tensor).to_local() if isinstance(tensor, DTensor) else tensor
    return own.detach()


def _is_composite(module: nn.Module) -> bool:
    return any(True for _ in module.children())
