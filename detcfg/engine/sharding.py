"""Parameters, gradients and optimizer state sharded over the ranks (FSDP2).

Each rank keeps a slice of every parameter, along its first dimension. The parameters of a unit are whole
only while it computes: gathered from the other ranks before, freed after. Units are found by structure, not by
name: the modules in a list of the backbone (the blocks of a stage), such modules inside those once more, and
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
    """The modules in a module's lists that have modules inside, inner ones first.

    Args:
        module: A backbone, for one.
        depth: How many units may be nested: for Swin, a block within a stage.
    """
    for child in module.children():
        if depth > 0 and isinstance(module, LISTS) and not isinstance(child, LISTS) and _is_composite(child):
            yield from units(child, depth - 1)
            yield child
        elif isinstance(child, LISTS):
            yield from units(child, depth)


@frozen
class Shards:
    """A model whose parameters are sharded over the ranks."""

    model: nn.Module
    scalars: frozenset[str]
    """Names of the parameters without dimensions. Those cannot be sharded, so they have two dimensions of size 1
    meanwhile: what they are multiplied with has more, and rules for parameters of one dimension leave them out."""

    @classmethod
    def of(cls, model: nn.Module) -> Shards:
        """Shard the parameters of a model, in place; its buffers stay whole. With one rank, nothing is sharded.

        Raises:
            RunError: This torch is too old.
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
    def unsharded(self) -> Generator[None]:
        """Within it, each rank has all parameters: it may compute without the others, by any method."""
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
        """The state dict of the unsharded model, on the CPU of rank 0; empty on the others.

        A collective: all ranks have to call it.
        """
        return {
            name: tensor.reshape(()) if name in self.scalars else tensor
            for name, tensor in full_tensors(self.model.state_dict()).items()
        }


def full_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that may be sharded, gathered on the CPU of rank 0; empty on the others. A collective."""
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
    """Have FSDP find out which unit is the root.

    It does so in the first forward pass, and takes a unit for the root that is called before it: a resumed run may
    begin with a validation, which calls the units one by one.
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    def nothing() -> None: ...

    model.nothing = nothing
    register_fsdp_forward_method(model, "nothing")
    model.nothing()
    del model.nothing
    model.reshard()


def local_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor that may be sharded."""
    from torch.distributed.tensor import DTensor

    local: Tensor = cast("Any", tensor).to_local() if isinstance(tensor, DTensor) else tensor
    return local.detach()


def _is_composite(module: nn.Module) -> bool:
    return any(True for _ in module.children())
