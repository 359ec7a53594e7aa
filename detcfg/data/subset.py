"""A part of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.config.ranges import PositiveInt, Seed
from detcfg.data.base import Annotations, Dataset, DatasetConfig, ImageInfo, Sample
from detcfg.data.errors import DataError
from detcfg.structures import Targets


@frozen(kw_only=True)
class SubsetDatasetConfig(DatasetConfig):
    """Some of the images of a dataset, for a quick look or a learning curve: `first`, `random` or `ids`, one of them.

    What the dataset reports of objects that are left out counts all of its images.
    """

    of: DatasetConfig
    """The whole, with the same `classes`."""
    first: PositiveInt | None = None
    """So many images, the first ones, or all if there are fewer."""
    random: PositiveInt | None = None
    """So many images, drawn by `seed` alone, or all if there are fewer. A larger number keeps those of a smaller one."""
    seed: Seed = 0
    """What `random` draws by."""
    ids: tuple[int | str, ...] = ()
    """Images by the id that the annotations give them (VOC: the name; YOLO: the path seen from the root)."""

    def wired(self) -> SubsetDatasetConfig:
        super().wired()
        given = [name for name in ("first", "random", "ids") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError(
                f"{' and '.join(given) or 'none of first, random and ids'} is given. Give one of first, random and ids."
            )
        if repeated := sorted({str(i) for i in self.ids if self.ids.count(i) > 1}):
            raise ConfigError(f"ids names {', '.join(repeated)} more than once.")
        if self.of.classes != self.classes:
            raise ConfigError(
                f"classes has {len(self.classes)} names, and of.classes {len(self.of.classes)} or others. "
                "Give both the same in the same order."
            )
        return self

    @property
    def reads_whole(self) -> bool:
        return self.of.reads_whole

    def read_image(self, path: str, *, whole: bool = False) -> Tensor:
        return self.of.read_image(path, whole=whole)

    def dataset(self, *, with_mask: bool = False) -> SubsetDataset:
        config = self.resolved()
        return SubsetDataset(config, config.of.dataset(with_mask=with_mask))


class SubsetDataset(Dataset):
    """Images keep their ids and the order of the whole."""

    def __init__(self, config: SubsetDatasetConfig, dataset: Dataset) -> None:
        self.dataset = dataset
        self.classes, self.problems = dataset.classes, dataset.problems
        self.drop_invalid, self.source = dataset.drop_invalid, dataset.source
        self.left_out = dataset.left_out
        self._rows = self._chosen(config)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._rows[index])]

    def info(self, index: int) -> ImageInfo:
        return self.dataset.info(int(self._rows[index]))

    def targets(self, index: int) -> Targets:
        return self.dataset.targets(int(self._rows[index]))

    def annotations(self) -> Annotations:
        whole = self.dataset.annotations()
        place = np.full(len(self.dataset), -1)
        place[self._rows] = np.arange(len(self))
        kept = place[whole.images] >= 0
        return Annotations(
            sizes=whole.sizes[self._rows],
            images=place[whole.images[kept]],
            boxes=whole.boxes[kept],
            labels=whole.labels[kept],
            ignored=whole.ignored[kept],
        )

    def ground_truth(self) -> dict[str, Any]:
        truth = self.dataset.ground_truth()
        ids = {self.info(index).image_id for index in range(len(self))}
        return {
            **truth,
            "images": [image for image in truth["images"] if image["id"] in ids],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in ids],
        }

    def doubt(self, sample: Sample) -> str:
        return self.dataset.doubt(sample)

    def _chosen(self, config: SubsetDatasetConfig) -> NDArray[np.int64]:
        count = len(self.dataset)
        if config.first is not None:
            return np.arange(min(config.first, count))
        if config.random is not None:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed))
            return np.sort(order[: config.random].numpy())
        row_of = {self.dataset.info(index).image_id: index for index in range(count)}
        if missing := [image_id for image_id in config.ids if image_id not in row_of]:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise DataError(
                f"{self.source}: ids names {missing[0]!r}{more}, which is no image that is read. Its ids are such as "
                f"{next(iter(row_of))!r}."
            )
        return np.sort(np.array([row_of[image_id] for image_id in config.ids], dtype=np.int64))
