"""Datasets whose images are files: what COCO's and VOC's have in common.

The annotations lie in a few flat arrays rather than in many small objects: they take little memory, and
worker processes share them without copying.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen
from numpy.typing import NDArray
from torch import Tensor

from detcfg.config.ranges import NonNegativeInt, PositiveInt
from detcfg.data.base import Annotations, Dataset, DatasetConfig, ImageInfo, Sample
from detcfg.data.errors import DataError, LeftOut, Problem
from detcfg.data.masks import Segmentations
from detcfg.data.reading import MAX_NUMBER
from detcfg.structures import Targets


@frozen(kw_only=True)
class FileDatasetConfig(DatasetConfig):
    """A config of a dataset whose images are files."""

    filter_empty_gt: bool = False
    """Leave out images without objects of `classes`."""
    min_size: NonNegativeInt = 0
    """Leave out images whose shorter side is below this, in pixels."""
    drop_invalid: bool = False
    """Go on without what is faulty (absent images, boxes outside their image ...) instead of stopping. In
    training, another image takes the place of one that cannot be read."""
    ignore_orientation: bool = False
    """Take pixels as they are stored, not as EXIF turns them."""
    max_pixels: PositiveInt = 128 * 1024 * 1024
    """Refuse images of more pixels, which may unpack to more memory than there is."""
    draft_size: tuple[PositiveInt, PositiveInt] | None = None
    """The largest `scale` that the transforms resize to. A JPEG of at least twice that is then decoded at a
    half, a quarter or an eighth of its size, with its boxes and masks: several times as fast, the pixels a
    little different. Crops before the resize see the smaller image. None: images are decoded whole."""

    @property
    def reads_whole(self) -> bool:
        return self.draft_size is None

    def read_image(self, path: str, *, whole: bool = False) -> Tensor:
        from detcfg.data.images import read_image

        return read_image(
            path,
            ignore_orientation=self.ignore_orientation,
            max_pixels=self.max_pixels,
            draft_size=None if whole else self.draft_size,
        )


@frozen(eq=False, kw_only=True)
class Table:
    """The images of a dataset and their objects. I images, A objects, sorted by image."""

    image_ids: list[int | str]
    paths: list[str]
    sizes: NDArray[np.int64]
    """(I, 2): (height, width)."""
    ends: NDArray[np.int64]
    """(I + 1,): the objects of image i are those from ends[i] to ends[i + 1]."""
    boxes: NDArray[np.float32]
    """(A, 4)."""
    labels: NDArray[np.int64]
    """(A,)."""
    ignored: NDArray[np.bool_]
    """(A,): crowds and difficult objects."""
    segmentations: Segmentations | None = None

    @classmethod
    def of(
        cls,
        *,
        image_ids: list[int | str],
        paths: list[str],
        sizes: NDArray[np.int64],
        images: NDArray[np.int64],
        boxes: NDArray[np.float64],
        labels: NDArray[np.int64],
        ignored: NDArray[np.bool_],
        segmentations: Segmentations | None = None,
    ) -> Table:
        """A table out of objects that lie sorted by `images` (A,), the index of the image of each."""
        counts = np.bincount(images, minlength=len(image_ids))
        return cls(
            image_ids=image_ids,
            paths=paths,
            sizes=sizes.reshape(-1, 2),
            ends=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=boxes.clip(-MAX_NUMBER, MAX_NUMBER).astype(np.float32).reshape(-1, 4),
            labels=labels,
            ignored=ignored,
            segmentations=segmentations,
        )


class FileDataset(Dataset):
    """The images of a table that the config does not filter out."""

    def __init__(
        self,
        config: FileDatasetConfig,
        source: str,
        table: Table,
        problems: list[Problem],
        truth: Callable[[], dict[str, Any]],
        *,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        """Hold a table's images.

        Args:
            config: What to leave out.
            source: The annotation file, which errors name.
            table: The images and objects.
            problems: What was found while reading them.
            truth: Gives the annotations in COCO's format, for evaluation, of all the table's images.
            left_out: What the table does not hold, or holds as ignored, besides what the problems report.
        """
        errors = [problem for problem in problems if problem.severity == "error"]
        if errors and not config.drop_invalid:
            remedy = "Or go on without what is faulty: set drop_invalid to true in the dataset's config."
            raise DataError(f"{DataError.of(errors)}\n{remedy}")
        self.config, self.source, self.table, self._truth = config, source, table, truth
        self.classes, self.problems = config.classes, tuple(problems)
        self.drop_invalid = config.drop_invalid
        kept = table.sizes.min(axis=1, initial=2**31) >= config.min_size
        if config.filter_empty_gt:
            kept &= np.diff(table.ends) > 0
        self._rows = np.flatnonzero(kept)
        self.left_out = (*left_out, *self._in_small_images(kept))
        if not len(table.paths):
            raise DataError(f"{source}: it names no usable image. A dataset needs at least one.")
        if not len(self._rows):
            raise DataError(
                f"{source}: all of its {len(table.paths)} images are left out by filter_empty_gt and "
                f"min_size. Check that classes ({', '.join(self.classes[:5])} ...) are what it annotates."
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        from torchvision import tv_tensors

        info = self.info(index)
        image = self.config.read_image(info.path)
        size = (image.shape[1], image.shape[2])
        if size not in self._decoded_sizes(info.size):
            raise DataError(
                f"{info.path}: image {info.image_id} has {size[1]}x{size[0]} pixels, but its annotation says "
                f"{info.size[1]}x{info.size[0]}, so its boxes would be misplaced. Correct the annotation, or set "
                f"ignore_orientation to {str(not self.config.ignore_orientation).lower()} if the image "
                "carries an EXIF orientation."
            )
        targets = self.targets(index)
        if (segmentations := self.table.segmentations) is not None:
            objects = self._objects(index)
            try:
                masks = segmentations.masks(range(objects.start, objects.stop), info.size)
            except ValueError as error:
                raise DataError(f"{info.path}: a mask of image {info.image_id} is broken: {error}.") from None
            targets = evolve(targets, masks=masks)
        if size != info.size:
            targets = _shrunk(targets, info.size, size)
        return Sample(image=tv_tensors.Image(image), targets=targets, info=info)

    def doubt(self, sample: Sample) -> str:
        from detcfg.data.images import lost_levels

        return lost_levels(sample.info.path, sample.image)

    def info(self, index: int) -> ImageInfo:
        row = int(self._rows[index])
        height, width = self.table.sizes[row].tolist()
        return ImageInfo(image_id=self.table.image_ids[row], path=self.table.paths[row], size=(height, width))

    def targets(self, index: int) -> Targets:
        objects = self._objects(index)
        ignored = self.table.ignored[objects]
        return Targets(
            boxes=torch.tensor(self.table.boxes[objects]),
            labels=torch.tensor(self.table.labels[objects]),
            ignored=torch.tensor(ignored) if ignored.any() else None,
        )

    def annotations(self) -> Annotations:
        table, rows = self.table, self._rows
        counts = np.diff(table.ends)
        kept = np.zeros(len(counts), dtype=bool)
        kept[rows] = True
        objects = np.repeat(kept, counts)
        return Annotations(
            sizes=table.sizes[rows],
            images=np.repeat(np.arange(len(rows)), counts[rows]),
            boxes=table.boxes[objects],
            labels=table.labels[objects],
            ignored=table.ignored[objects],
        )

    def ground_truth(self) -> dict[str, Any]:
        truth = self._truth()
        if len(self._rows) == len(self.table.paths):
            return truth
        ids = {self.table.image_ids[row] for row in self._rows}
        return {
            "images": [image for image in truth["images"] if image["id"] in ids],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in ids],
            "categories": truth["categories"],
        }

    def class_counts(self) -> list[int]:
        """How many objects each class has, ignored ones left out."""
        labels = self.table.labels[~self.table.ignored]
        return [int(count) for count in np.bincount(labels, minlength=len(self.classes))]

    def _in_small_images(self, kept: NDArray[np.bool_]) -> list[LeftOut]:
        """The objects of images that are left out."""
        counts = np.diff(self.table.ends)
        lost = np.flatnonzero(~kept & (counts > 0)).tolist()
        if not lost:
            return []
        return [
            LeftOut(
                reason="in images below min_size",
                count=int(counts[lost].sum()),
                example=f"those of image {self.table.image_ids[lost[0]]}",
                remedy="Lower the dataset's min_size.",
            )
        ]

    def _decoded_sizes(self, size: tuple[int, int]) -> set[tuple[int, int]]:
        """What an image of (height, width) may be read as."""
        parts = (1,) if self.config.draft_size is None else (1, 2, 4, 8)
        return {(-(-size[0] // part), -(-size[1] // part)) for part in parts}

    def _objects(self, index: int) -> slice:
        row = self._rows[index]
        return slice(int(self.table.ends[row]), int(self.table.ends[row + 1]))


def _shrunk(targets: Targets, size: tuple[int, int], to: tuple[int, int]) -> Targets:
    """The objects of an image of (height, width) that was decoded smaller."""
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional as F

    masks = targets.masks
    if masks is not None:
        masks = F.resize(tv_tensors.Mask(masks), list(to)).as_subclass(Tensor)
    factors = targets.boxes.new_tensor([to[1] / size[1], to[0] / size[0]]).repeat(2)
    return evolve(targets, boxes=targets.boxes * factors, masks=masks)


def box_problem(box: tuple[float, float, float, float], size: tuple[int, int]) -> str:
    """Why a box cannot be used in an image of (height, width); empty if it can."""
    x1, y1, x2, y2 = box
    height, width = size
    if not np.isfinite(box).all():
        return "is not four finite numbers"
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return f"lies outside its image of {width}x{height}"
    return ""
