"""Several datasets as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np
from attrs import evolve, frozen
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.data.base import Annotations, Dataset, DatasetConfig, ImageInfo, Sample
from detcfg.data.errors import LeftOut, Problem
from detcfg.structures import Targets


@frozen(kw_only=True)
class ConcatDatasetConfig(DatasetConfig):
    """Several datasets of the same classes, one after the other (mmengine/dataset/dataset_wrapper.py)."""

    datasets: tuple[DatasetConfig, ...]
    """What is put together. Each names the same `classes` in the same order."""

    def wired(self) -> ConcatDatasetConfig:
        super().wired()
        if not self.datasets:
            raise ConfigError("datasets is empty; name those to put together.")
        for number, inner in enumerate(self.datasets):
            if inner.classes != self.classes:
                raise ConfigError(
                    f"classes has {len(self.classes)} names, and datasets.{number}.classes "
                    f"{len(inner.classes)} or others. Give them the same classes in the same order."
                )
        return self

    @property
    def reads_whole(self) -> bool:
        return self.datasets[0].reads_whole

    def read_image(self, path: str, *, whole: bool = False) -> Tensor:
        return self.datasets[0].read_image(path, whole=whole)

    def dataset(self, *, with_mask: bool = False) -> ConcatDataset:
        return ConcatDataset([inner.dataset(with_mask=with_mask) for inner in self.datasets])


class ConcatDataset(Dataset):
    """Images keep their order; an image's id begins with the number of its dataset."""

    def __init__(self, datasets: list[Dataset]) -> None:
        self.datasets = datasets
        self.classes = datasets[0].classes
        self.problems = tuple(problem for inner in datasets for problem in inner.problems)
        self.drop_invalid = all(inner.drop_invalid for inner in datasets)
        self.source = " and ".join(dict.fromkeys(inner.source for inner in datasets if inner.source))
        self.left_out = _merged(group for inner in datasets for group in inner.left_out)
        self._ends = list(accumulate(map(len, datasets)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        number, inner = self._place(index)
        sample = self.datasets[number][inner]
        return evolve(sample, info=_renamed(sample.info, number))

    def info(self, index: int) -> ImageInfo:
        number, inner = self._place(index)
        return _renamed(self.datasets[number].info(inner), number)

    def targets(self, index: int) -> Targets:
        number, inner = self._place(index)
        return self.datasets[number].targets(inner)

    def annotations(self) -> Annotations:
        parts = [inner.annotations() for inner in self.datasets]
        starts = [0, *self._ends]
        return Annotations(
            sizes=np.concatenate([part.sizes for part in parts]),
            images=np.concatenate([part.images + start for part, start in zip(parts, starts, strict=False)]),
            boxes=np.concatenate([part.boxes for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            ignored=np.concatenate([part.ignored for part in parts]),
        )

    def scan(self) -> Iterator[tuple[int, Problem | None]]:
        for start, inner in zip([0, *self._ends], self.datasets, strict=False):
            for index, problem in inner.scan():
                yield start + index, problem

    def ground_truth(self) -> dict[str, Any]:
        parts = [inner.ground_truth() for inner in self.datasets]
        of_name = {category["name"]: category["id"] for category in parts[0]["categories"]}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            category_of = {category["id"]: of_name[category["name"]] for category in part["categories"]}
            images += [{**image, "id": _name(number, image["id"])} for image in part["images"]]
            for annotation in part["annotations"]:
                new = {
                    "id": len(annotations) + 1,
                    "image_id": _name(number, annotation["image_id"]),
                    "category_id": category_of[annotation["category_id"]],
                }
                annotations.append({**annotation, **new})
        return {**parts[0], "images": images, "annotations": annotations}

    def _place(self, index: int) -> tuple[int, int]:
        """(dataset, index in it)."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def _merged(groups: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Groups of one reason as one."""
    merged: dict[str, LeftOut] = {}
    for group in groups:
        before = merged.get(group.reason)
        merged[group.reason] = group if before is None else evolve(before, count=before.count + group.count)
    return tuple(merged.values())


def _name(number: int, image_id: int | str) -> str:
    return f"{number}/{image_id}"


def _renamed(info: ImageInfo, number: int) -> ImageInfo:
    return evolve(info, image_id=_name(number, info.image_id))
