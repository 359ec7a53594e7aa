"""The data of an experiment: what is learnt from, what it is judged on, and how both are read."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from attrs import field, frozen

from detcfg.config import Config, ConfigError
from detcfg.config.ranges import Fraction, NonEmpty, NonNegativeInt, PositiveInt
from detcfg.data.base import Dataset, DatasetConfig
from detcfg.data.loader import Loader
from detcfg.data.oversampled import Oversampled
from detcfg.data.transforms import RandomFlipConfig, ResizeConfig, TransformConfig

__all__ = ["DataConfig", "DatasetConfig"]

Split: TypeAlias = Literal["train", "val", "test"]


@frozen(kw_only=True)
class DataConfig(Config):
    """Datasets with their transforms and loaders."""

    train: DatasetConfig = field()
    """What is learnt from."""
    val: DatasetConfig = field()
    """What is evaluated after each epoch."""
    test: DatasetConfig | None = None
    """What `detcfg eval` judges; None: `val`."""
    with_mask: bool = False
    """Whether samples carry masks, for models that learn them."""
    train_transforms: tuple[TransformConfig, ...] = (ResizeConfig(), RandomFlipConfig())
    """Applied in turn to each image of `train`."""
    switch_epoch: PositiveInt | None = None
    """After so many epochs `switch_transforms` take the place of `train_transforms`, as where strong augmentation stops
    before the end; None: never."""
    switch_transforms: tuple[TransformConfig, ...] = ()
    """Applied in turn to each image of `train` from `switch_epoch` on; without one there are none."""
    val_transforms: tuple[TransformConfig, ...] = (ResizeConfig(),)
    """Applied to the images of `val` and `test`. They may change an image's size, but not crop or flip it,
    because detections are scaled back to the original image."""
    batch_size: PositiveInt = 2
    """Images in a training batch of one process."""
    val_batch_size: PositiveInt = 1
    """Images in a batch of evaluation."""
    num_workers: NonNegativeInt = 2
    """Processes that read images, for each loader; 0 reads in the training process."""
    oversample_thr: Fraction = 0.0
    """Show images of classes that fewer than this share of `train`'s images have several times in an epoch, as
    LVIS does with 0.001; 0 shows each image once."""
    group_by_aspect_ratio: bool = True
    """Put wide images with wide and tall with tall, so that batches have little padding."""
    drop_last: bool = False
    """Leave out the last training batch of an epoch if it is not full."""
    pin_memory: bool = False
    """Copy batches into page-locked memory, from where a GPU fetches them faster."""
    max_dets: NonEmpty[PositiveInt] = (1, 10, 100)
    """How many detections of an image and class count in evaluation, at most: one AR each, and the greatest for all
    AP. Data of LVIS has its own rule, 300 detections of an image."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return self.train.classes

    def wired(self) -> Self:
        if self.switch_transforms and self.switch_epoch is None:
            raise ConfigError(
                "switch_transforms are given, and switch_epoch does not say from when on. Set it."
            )
        for name, dataset in (("val", self.val), ("test", self.test)):
            if dataset is not None and dataset.classes != self.train.classes:
                raise ConfigError(
                    f"train.classes {_named(self.train.classes)}, but {name}.classes "
                    f"{_named(dataset.classes)}. Give both datasets the same classes in the same order."
                )
        return self

    def train_loader(self, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> Loader:
        """Shuffled, transformed batches of `train`.

        Args:
            seed: Decides the order and what random transforms draw.
            rank: Which of the processes that train together this is; each gets its own batches.
            world_size: How many there are.

        Raises:
            DataError: The data cannot be used as it is.
        """
        dataset = self.train.dataset(with_mask=self.with_mask)
        return Loader(
            Oversampled(dataset, self.oversample_thr) if self.oversample_thr else dataset,
            self.train_transforms,
            batch_size=self.batch_size,
            shuffle=True,
            group_by_aspect_ratio=self.group_by_aspect_ratio,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            seed=seed,
            rank=rank,
            world_size=world_size,
            switch=None if self.switch_epoch is None else (self.switch_epoch, self.switch_transforms),
        )

    def val_loader(self, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> Loader:
        """Batches of `val` in order; see `train_loader`."""
        return self._ordered_loader(self.val.dataset(with_mask=self.with_mask), seed, rank, world_size)

    def test_loader(self, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> Loader:
        """Batches of `test`, or of `val` if there is none, in order; see `train_loader`."""
        dataset = (self.test or self.val).dataset(with_mask=self.with_mask)
        return self._ordered_loader(dataset, seed, rank, world_size)

    def eval_loader(self, split: Split = "test") -> Loader:
        """Batches of any dataset in order, `train` without its own transforms; see `train_loader`."""
        if split == "train":
            return self._ordered_loader(self.train.dataset(with_mask=self.with_mask), 0, 0, 1)
        return self.val_loader() if split == "val" else self.test_loader()

    def _ordered_loader(self, dataset: Dataset, seed: int, rank: int, world_size: int) -> Loader:
        return Loader(
            dataset,
            self.val_transforms,
            batch_size=self.val_batch_size,
            shuffle=False,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )


def _named(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
    return f"has {len(classes)} names ({shown})"
