"""What every dataset is: images with their objects, read one at a time.

A sample is (image, targets, info). Boxes are (x1, y1, x2, y2) in absolute pixels, labels count from 0
in the order of the dataset's `classes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import NDArray
from torch import Tensor

from detcfg.config import Config, ConfigError
from detcfg.data.errors import DataError, LeftOut, Problem
from detcfg.structures import Targets


@frozen(kw_only=True)
class ImageInfo:
    """What is known of an image without reading it."""

    image_id: int | str
    """As the annotations name it."""
    path: str
    """The file, or a description where there is none."""
    size: tuple[int, int]
    """(height, width) of the original image, with its EXIF orientation applied."""


@frozen(eq=False)
class Sample:
    """One image with its objects."""

    image: Tensor
    """(3, H, W) uint8 RGB, a `torchvision.tv_tensors.Image`."""
    targets: Targets
    info: ImageInfo


@frozen(kw_only=True)
class DatasetConfig(Config, ABC):
    """A config of a dataset. Its class names are where the model's number of classes comes from."""

    classes: tuple[str, ...] = field()
    """The names of the classes to learn; a label is an index into them."""

    def wired(self) -> Self:
        if not self.classes:
            raise ConfigError(
                "classes is empty, and a detector needs at least one. Name the classes to learn."
            )
        if repeated := sorted({name for name in self.classes if self.classes.count(name) > 1}):
            raise ConfigError(f"classes names {', '.join(map(repr, repeated))} more than once.")
        return self

    @property
    def reads_whole(self) -> bool:
        """Whether images are decoded with all of their pixels."""
        return True

    def read_image(self, path: str, *, whole: bool = False) -> Tensor:
        """An image file as the dataset's own are read, (3, H, W) uint8 RGB.

        Args:
            path: The file.
            whole: With all of its pixels, even if the dataset's own are decoded smaller.

        Raises:
            DataError: It cannot be read.
        """
        from detcfg.data.images import read_image

        del whole
        return read_image(path)

    @abstractmethod
    def dataset(self, *, with_mask: bool = False) -> Dataset:
        """Read the annotations, and return what reads the images.

        Args:
            with_mask: Whether samples carry the objects' masks, which cost time to decode.

        Raises:
            DataError: The data cannot be used as it is.
        """


@frozen(eq=False)
class Annotations:
    """All objects of a dataset in a few arrays. I images, A objects, sorted by image."""

    sizes: NDArray[np.int64]
    """(I, 2): (height, width) of each image."""
    images: NDArray[np.int64]
    """(A,): the index of each object's image."""
    boxes: NDArray[np.float32]
    """(A, 4)."""
    labels: NDArray[np.int64]
    """(A,)."""
    ignored: NDArray[np.bool_]
    """(A,)."""


class Dataset(ABC):
    """Images with their objects, by index. Indexing reads one image, nothing else does."""

    classes: tuple[str, ...]
    source: str = ""
    """The file that the annotations are from, for messages."""
    problems: tuple[Problem, ...] = ()
    """What was found, and left out, while reading the annotations."""
    left_out: tuple[LeftOut, ...] = ()
    """Objects of the annotations that are ignored or dropped, by reason; faulty ones are among `problems`."""
    drop_invalid: bool = False
    """Whether to go on without images that cannot be read."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read an image and its objects.

        Raises:
            DataError: The image cannot be read.
        """

    def __iter__(self) -> Iterator[Sample]:
        """Every image in turn."""
        return (self[index] for index in range(len(self)))

    @abstractmethod
    def info(self, index: int) -> ImageInfo:
        """What is known of an image, without reading it."""

    @abstractmethod
    def targets(self, index: int) -> Targets:
        """The objects of an image, without masks and without reading the image."""

    def annotations(self) -> Annotations:
        """All objects at once, without masks and without reading the images."""
        targets = [self.targets(index) for index in range(len(self))]
        none = torch.zeros(0, dtype=torch.bool)
        ignored = [t.ignored if t.ignored is not None else none.new_zeros(len(t)) for t in targets]
        return Annotations(
            sizes=np.array([self.info(index).size for index in range(len(self))]).reshape(-1, 2),
            images=np.repeat(np.arange(len(self)), list(map(len, targets))),
            boxes=torch.cat([torch.zeros(0, 4), *(t.boxes for t in targets)]).numpy(),
            labels=torch.cat([none.long(), *(t.labels for t in targets)]).numpy(),
            ignored=torch.cat([none, *ignored]).numpy(),
        )

    @abstractmethod
    def ground_truth(self) -> dict[str, Any]:
        """The annotations in COCO's format, for evaluation: every object, crowds marked as such."""

    def scan(self) -> Iterator[tuple[int, Problem | None]]:
        """Read every image in turn; yield its index and what is wrong with it, if anything is."""
        for index in range(len(self)):
            try:
                doubt = self.doubt(self[index])
            except DataError as error:
                yield index, self._problem(index, str(error), "error")
            else:
                yield index, self._problem(index, doubt, "note") if doubt else None

    def doubt(self, sample: Sample) -> str:
        """What is suspect of an image that can be read, as sentences; empty if nothing is."""
        del sample
        return ""

    def _problem(self, index: int, message: str, severity: Literal["error", "note"]) -> Problem:
        """What a message says of the file of an image."""
        path = self.info(index).path
        what, _, remedy = message.removeprefix(f"{path}: ").removesuffix(".").rpartition(". ")
        return Problem(file=path, what=what or remedy, remedy=f"{remedy}." if what else "", severity=severity)
