"""How a run holds its model and keeps its state: a replica on each rank and one file, or in shards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detcfg.detectors.base import Detector
from detcfg.engine import distributed
from detcfg.engine.checkpoint import BEST, LAST, TrainingState, load_training, save_training, save_weights
from detcfg.engine.faults import broken_weights, other_sharding
from detcfg.engine.sharded_checkpoint import load_sharded, newest, save_sharded
from detcfg.engine.sharding import Shards, local_shard
from detcfg.recipe.config import TrainerConfig


class Store(ABC):
    """Wraps a detector for training, and keeps the state of the training in its folder.

    Its methods are collectives: all ranks call them.
    """

    model: nn.Module
    """The detector as it is called in training."""

    def __init__(self, detector: Detector, folder: Path) -> None:
        """Wrap a detector that is on its device; its parameters may be replaced."""
        self.detector, self.folder = detector, folder

    @staticmethod
    @abstractmethod
    def last(folder: Path) -> Path | None:
        """The last checkpoint in a folder, if there is one of this kind."""

    def save(self, state: TrainingState) -> None:
        """Write the state as the last checkpoint.

        Raises:
            RunError: It cannot be written, or the last step left weights that are not finite; the checkpoint
                from before stays.
        """
        self._refuse_broken_weights(state.progress["step"])
        self._write(state)

    @abstractmethod
    def load(self, optimizer: Optimizer) -> tuple[Path, TrainingState]:
        """The last checkpoint and its content, sharded as the model and the optimizer are.

        Raises:
            CheckpointError: It is not there, not whole, or something else.
        """

    def keep_best(self) -> None:
        """Write the weights, unsharded, as the best so far.

        Raises:
            RunError: They cannot be written; the best from before stays.
        """
        weights = self._weights()
        if distributed.rank() == 0:
            save_weights(weights, self.folder / BEST)

    @abstractmethod
    def unsharded(self) -> AbstractContextManager[None]:
        """Within it, each rank has all parameters, and may compute without the others."""

    @abstractmethod
    def _write(self, state: TrainingState) -> None: ...

    @abstractmethod
    def _weights(self) -> dict[str, Tensor]:
        """The weights, unsharded, on rank 0."""

    @abstractmethod
    def _local(self, parameter: Tensor) -> Tensor:
        """What this rank has of a parameter."""

    def _refuse_broken_weights(self, step: int) -> None:
        """Keep the last good checkpoint if a step, whose loss was finite, spoilt the weights."""
        trained = {name: p for name, p in self.detector.named_parameters() if p.requires_grad}
        finite = torch.stack([self._local(p).isfinite().all() for p in trained.values()]).cpu()
        broken = [name for name, fine in zip(trained, finite, strict=True) if not fine]
        if names := list(dict.fromkeys(name for part in distributed.all_gather(broken) for name in part)):
            raise broken_weights(names, step)


class Whole(Store):
    """A full replica on each rank (DDP); the state is one file, which rank 0 writes."""

    def __init__(self, detector: Detector, folder: Path) -> None:
        super().__init__(detector, folder)
        self.model = distributed.wrap_ddp(detector)

    @staticmethod
    def last(folder: Path) -> Path | None:
        return folder / LAST if (folder / LAST).is_file() else None

    def load(self, optimizer: Optimizer) -> tuple[Path, TrainingState]:
        del optimizer
        path = self.folder / LAST
        state = distributed.broadcast_from_rank0(load_training(path) if distributed.rank() == 0 else None)
        assert state is not None
        return path, state

    def unsharded(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _write(self, state: TrainingState) -> None:
        if distributed.rank() == 0:
            save_training(state, self.folder / LAST)

    def _weights(self) -> dict[str, Tensor]:
        return self.detector.state_dict()

    def _local(self, parameter: Tensor) -> Tensor:
        return parameter.detach()


class Sharded(Store):
    """A shard on each rank (FSDP2); the state is a folder, into which each writes its shard."""

    def __init__(self, detector: Detector, folder: Path) -> None:
        super().__init__(detector, folder)
        self.shards = Shards.of(detector)
        self.model = detector

    @staticmethod
    def last(folder: Path) -> Path | None:
        return newest(folder)

    def load(self, optimizer: Optimizer) -> tuple[Path, TrainingState]:
        path = distributed.broadcast_from_rank0(newest(self.folder))
        assert path is not None
        return path, load_sharded(path, self.detector, optimizer)

    def unsharded(self) -> AbstractContextManager[None]:
        return self.shards.unsharded()

    def _write(self, state: TrainingState) -> None:
        save_sharded(state, self.shards.scalars, self.folder)

    def _weights(self) -> dict[str, Tensor]:
        return self.shards.state()

    def _local(self, parameter: Tensor) -> Tensor:
        return local_shard(parameter)


STORES: Final[dict[str, type[Store]]] = {"none": Whole, "fsdp": Sharded}
"""By `TrainerConfig.sharding`."""


def store_of(config: TrainerConfig, detector: Detector, folder: Path) -> Store:
    """The store that a config asks for.

    Raises:
        RunError: This torch is too old to shard a model.
    """
    return STORES[config.sharding](detector, folder)


def last_checkpoint(config: TrainerConfig, folder: Path) -> Path | None:
    """The last checkpoint in a folder, if there is one to go on from.

    Raises:
        RunError: There is one of the other kind: sharded where the config says `none`, or the other way round.
    """
    found = {kind: store.last(folder) for kind, store in STORES.items()}
    for kind, path in found.items():
        if path is not None and kind != config.sharding:
            raise other_sharding(path, kind, config.sharding)
    return found[config.sharding]
