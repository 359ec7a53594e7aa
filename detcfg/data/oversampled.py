"""Images of rare classes, several times in an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from detcfg.data.base import Annotations, Dataset, ImageInfo, Sample
from detcfg.structures import Targets


class Oversampled(Dataset):
    """A dataset in which rare classes come more often (Gupta et al., 2019, https://arxiv.org/abs/1908.03195).

    A class that a share f of the images has is repeated sqrt(threshold / f) times, at least once; an image
    as often as the rarest of its classes, rounded up, as in mmdet/datasets/dataset_wrappers.py,
    ClassBalancedDataset.
    """

    def __init__(self, dataset: Dataset, threshold: float) -> None:
        self.dataset = dataset
        self.classes, self.problems = dataset.classes, dataset.problems
        self.drop_invalid, self.source = dataset.drop_invalid, dataset.source
        self.left_out = dataset.left_out
        seen = np.zeros((len(dataset), len(self.classes)), dtype=bool)
        objects = dataset.annotations()
        seen[objects.images[~objects.ignored], objects.labels[~objects.ignored]] = True
        shares = seen.mean(axis=0)
        times = np.sqrt(threshold / np.where(shares > 0, shares, 1.0))
        # An image without objects, like one of frequent classes, comes once.
        often = np.ceil(np.where(seen, times, 1.0).max(axis=1, initial=1.0)).astype(np.int64)
        self._rows = np.repeat(np.arange(len(dataset)), often)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._rows[index])]

    def info(self, index: int) -> ImageInfo:
        return self.dataset.info(int(self._rows[index]))

    def targets(self, index: int) -> Targets:
        return self.dataset.targets(int(self._rows[index]))

    def annotations(self) -> Annotations:
        """Of each image once, however often it comes."""
        return self.dataset.annotations()

    def ground_truth(self) -> dict[str, Any]:
        return self.dataset.ground_truth()
