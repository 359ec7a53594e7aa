"""Batches of samples, in an order that the seed and the epoch alone decide.

The number of worker processes changes neither the order nor what random transforms draw, and an
epoch can be taken up again at any batch.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from attrs import evolve, frozen
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from detcfg.data.base import Dataset, ImageInfo, Sample
from detcfg.data.errors import DataError, ReadingError
from detcfg.data.transforms import Pipeline, TransformConfig
from detcfg.structures import Targets

GRACE: Final = 60
"""Seconds that a worker goes on after a SIGTERM, so that the step under way gets its images."""
MAX_STAND_INS: Final = 10
"""Images that are tried in the place of an unreadable one."""


@frozen(eq=False)
class Batch:
    """Images of different sizes with their objects."""

    images: list[Tensor]
    """uint8 RGB (3, H, W)."""
    targets: list[Targets]
    infos: list[ImageInfo]
    problems: tuple[str, ...] = ()
    """What was wrong with images that others stand in for, or that are left out."""

    def __len__(self) -> int:
        return len(self.images)

    def pin_memory(self) -> Batch:
        """The same batch with its images in page-locked memory."""
        return evolve(self, images=[image.pin_memory() for image in self.images])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on another device, as Lightning and Accelerate ask for it."""
        return evolve(
            self,
            images=[image.to(device, non_blocking=non_blocking) for image in self.images],
            targets=[target.to(device) for target in self.targets],
        )


class Loader(DataLoader["_Read"]):
    """Transformed batches (`Batch`) of a dataset, epoch by epoch.

    Each iteration of a shuffled loader is the next epoch: another order, and other random transforms. A loader in
    order gives the same each time. `len(loader)` is the number of batches that one process sees in an epoch. `switch` is an
    epoch, counted from 0, and the transforms from it on.
    """

    def __init__(
        self,
        dataset: Dataset,
        transforms: Sequence[TransformConfig] = (),
        *,
        batch_size: int,
        shuffle: bool,
        group_by_aspect_ratio: bool = False,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        switch: tuple[int, Sequence[TransformConfig]] | None = None,
    ) -> None:
        if not len(dataset):
            raise DataError("The dataset has no images.")
        self.source = dataset
        self.batches = BatchSampler(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            group_by_aspect_ratio=group_by_aspect_ratio,
            drop_last=drop_last,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        if shuffle and drop_last and len(dataset) < batch_size:
            raise DataError(
                f"The dataset's {len(dataset)} images do not fill one batch of {batch_size}, and drop_last "
                "leaves out what is not full. Lower batch_size, or set drop_last to false."
            )
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # torch leaves some of it untyped
            _Transformed(
                dataset, transforms, seed, stand_ins=shuffle and dataset.drop_invalid, switch=switch
            ),
            batch_sampler=self.batches,
            collate_fn=_Collate(drop_invalid=dataset.drop_invalid),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker if num_workers else None,
            generator=torch.Generator(),  # its own, so that iterating draws nothing from the default one
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch says what its iterator is, not what it gives # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__iter__()

    def close(self) -> None:
        """Let the worker processes go, also in the middle of an epoch; the next epoch starts new ones."""
        iterator: Any = self._iterator
        if iterator is not None:
            iterator._shutdown_workers()  # noqa: SLF001 - there is no public way, and waiting for gc may hang at exit
            self._iterator = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; those before it are not read.

        Raises:
            DataError: An image cannot be read, and the dataset's `drop_invalid` is false or no image of
                the batch can.
        """
        self.batches.set_epoch(epoch, start)
        return iter(self)


class BatchSampler(Sampler[list[tuple[int, int]]]):
    """Which images come together, as (epoch, index).

    The batches of an epoch are decided for all processes together, then dealt out in turn. Each iteration is the
    next epoch where the order is shuffled, unless `set_epoch` says which.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        shuffle: bool,
        group_by_aspect_ratio: bool,
        drop_last: bool,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.epoch, self.start = 0, 0
        self.size = len(dataset)
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.tall: NDArray[np.bool_] | None = None
        if group_by_aspect_ratio:
            sizes = (dataset.info(index).size for index in range(self.size))
            self.tall = np.array([height > width for height, width in sizes])

    @property
    def batches_of_a_process(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        batches = full + (rest > 0 and not self.drop_last)
        if self.shuffle:
            return -(-batches // self.world_size)
        return len(range(self.rank, batches, self.world_size))

    @property
    def sampler(self) -> BatchSampler:
        """What Lightning tells the epoch to (`set_epoch`)."""
        return self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Say which epoch the next iteration is, and from which of its batches on."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """The batches of a process in a whole epoch."""
        return self.batches_of_a_process

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # torch asks for more iterators than it uses: the first batch begins an epoch.
        return self._epoch(self.epoch, self.start)

    def _epoch(self, epoch: int, start: int) -> Iterator[list[tuple[int, int]]]:
        self.set_epoch(epoch + int(self.shuffle))
        batches = self._batches(epoch)
        if self.shuffle:
            # Processes that train together must take as many steps: deal some batches twice.
            batches += [batches[i % len(batches)] for i in range(-len(batches) % self.world_size)]
        for batch in batches[self.rank :: self.world_size][start:]:
            yield [(epoch, index) for index in batch]

    def _batches(self, epoch: int) -> list[list[int]]:
        order = np.arange(self.size)
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            order = torch.randperm(self.size, generator=generator).numpy()
        if self.tall is None:
            return self._cut(order.tolist())
        return self._grouped(order.tolist(), self.tall[order].tolist())

    def _cut(self, order: list[int]) -> list[list[int]]:
        starts = range(0, len(order), self.batch_size)
        batches = [order[start : start + self.batch_size] for start in starts]
        return batches[:-1] if self.drop_last and len(batches[-1]) < self.batch_size else batches

    def _grouped(self, order: list[int], tall: list[bool]) -> list[list[int]]:
        """Fill a batch with images of one kind, in the order in which they come; the rest come last."""
        open_batches: dict[bool, list[int]] = {False: [], True: []}
        batches: list[list[int]] = []
        for index, kind in zip(order, tall, strict=True):
            open_batches[kind].append(index)
            if len(open_batches[kind]) == self.batch_size:
                batches.append(open_batches[kind])
                open_batches[kind] = []
        rest = open_batches[True] + open_batches[False]
        return batches + (self._cut(rest) if rest else [])


@frozen(eq=False)
class _Read:
    """A sample, unless it could not be read, and the errors met on the way; all of it passes processes."""

    sample: Sample | None
    errors: tuple[DataError, ...] = ()


class _Transformed(TorchDataset[_Read]):
    """Reads and transforms samples; with `stand_ins`, another image takes the place of an unreadable one."""

    def __init__(
        self,
        dataset: Dataset,
        transforms: Sequence[TransformConfig],
        seed: int,
        *,
        stand_ins: bool,
        switch: tuple[int, Sequence[TransformConfig]] | None,
    ) -> None:
        self.dataset, self.transforms, self.seed = dataset, tuple(transforms), seed
        self.stand_ins, self.switch = stand_ins, switch
        self._pipelines: dict[bool, Pipeline] = {}

    def __getitem__(self, key: tuple[int, int]) -> _Read:
        epoch, index = key
        errors: list[DataError] = []
        others = (
            mix(self.seed, epoch, index, attempt) % len(self.dataset) for attempt in range(MAX_STAND_INS)
        )
        for candidate in (index, *others) if self.stand_ins else (index,):
            try:
                return _Read(self._transformed(epoch, candidate), tuple(errors))
            except DataError as error:
                errors.append(error)
        return _Read(None, tuple(errors))

    def _transformed(self, epoch: int, index: int) -> Sample:
        late = self.switch is not None and epoch >= self.switch[0]
        if late not in self._pipelines:  # made where it is used: a worker process makes its own
            self._pipelines[late] = Pipeline(self.switch[1] if self.switch and late else self.transforms)
        return self._pipelines[late](self.dataset[index], mix(self.seed, epoch, index))


def mix(*numbers: int) -> int:
    """One seed out of several numbers, unlike that of any neighbouring numbers."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1  # torch takes 63 bits


class _Collate:
    """Makes a batch of what was read; refuses it for what was not, unless `drop_invalid`."""

    def __init__(self, *, drop_invalid: bool) -> None:
        self.drop_invalid = drop_invalid

    def __call__(self, read: list[_Read]) -> Batch:
        samples = [item.sample for item in read if item.sample is not None]
        errors = [error for item in read for error in item.errors]
        if errors and (not self.drop_invalid or not samples):
            raise ReadingError(str(errors[-1]))
        return Batch(
            images=[sample.image.as_subclass(Tensor) for sample in samples],
            targets=[sample.targets for sample in samples],
            infos=[sample.info for sample in samples],
            problems=tuple(map(str, errors)),
        )


def _start_worker(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the main process, and the cores to the other workers.

    After a SIGTERM, which a main process that ends sends too, a worker has `GRACE` seconds.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)
    torch.set_num_threads(1)


def _end_soon(*_: object) -> None:
    signal.alarm(GRACE)
