"""What a dataset holds, in a line, and what looks wrong with it: said before time goes into a training."""

from __future__ import annotations

from typing import Final

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from detcfg.data.base import Annotations, Dataset
from detcfg.data.concat import ConcatDataset
from detcfg.data.errors import DataError, LeftOut, Problem
from detcfg.data.oversampled import Oversampled

SHOWN: Final = 3
"""Names, notes and the like of a kind that are written out; of more, their number."""
FAR: Final = 0.05
"""A box leaves its image by far if it reaches beyond it by more than this part of its side, and `FAR_PIXELS`."""
FAR_PIXELS: Final = 4
MANY: Final = 0.5
"""The part of all objects from where on ignored ones are suspect."""


@frozen(kw_only=True)
class DatasetReport:
    """What is said of a dataset when a training, an evaluation or a check begins."""

    source: str
    """The file of the annotations; empty if there is none."""
    images: int
    empty: int
    """Images without objects, ignored ones counted as objects."""
    objects: tuple[int, ...]
    """Ground-truth objects of each class, ignored ones left out."""
    ignored: int
    """Objects that are ignored (crowd, difficult)."""
    left_out: tuple[LeftOut, ...]
    """What is ignored or dropped, by reason, faulty entries included."""
    warnings: tuple[str, ...]
    """What is allowed and seldom meant, each with its likely cause."""

    @property
    def total(self) -> int:
        """Ground-truth objects, ignored ones left out."""
        return sum(self.objects)

    def lines(self, name: str) -> list[str]:
        """The line about the dataset and its warnings.

        That there is nothing to learn is an error for `data.train`, see `check`, and else a warning.

        Args:
            name: What the dataset is called: "data.train".
        """
        warnings = self.warnings if self.total or name == "data.train" else (self.nothing, *self.warnings)
        return [f"{name}: {self.line}", *(f"warning: {name}: {warning}" for warning in warnings)]

    @property
    def line(self) -> str:
        """How many images and objects there are, and what is ignored and dropped."""
        kinds = [[g for g in self.left_out if g.ignored], [g for g in self.left_out if not g.ignored]]
        dropped = sum(group.count for group in kinds[1])
        parts = (
            f"{self.images:,} images ({self.empty:,} without objects)",
            f"{self.total:,} objects to learn",
            f"{self.ignored:,} ignored{_in_brackets(kinds[0])}",
            f"{dropped:,} dropped{_in_brackets(kinds[1])}",
        )
        return ", ".join(parts)

    def check(self, name: str) -> None:
        """Refuse a dataset without an object to learn.

        Args:
            name: What the dataset is called: "data.train".

        Raises:
            DataError: Nothing can be learned from it; the message says why.
        """
        if not self.total:
            raise DataError(f"{name}: {self.nothing}")

    @property
    def nothing(self) -> str:
        """Why there is no object to learn, and the remedy."""
        nothing = (
            f"{self.source}: there is no object to learn" if self.source else "there is no object to learn"
        )
        causes = sorted(self.left_out, key=lambda group: -group.count)
        if not causes:
            return (
                f"{nothing}: it annotates none. Check that it is the file with the labels, "
                "and not one that was exported before they were made."
            )
        found = "; ".join(f"{g.count:,} {g.reason}, such as {g.example}" for g in causes)
        return f"{nothing}: {found}. {causes[0].remedy}"


def report(dataset: Dataset) -> DatasetReport:
    """Count what a dataset holds, without reading its images."""
    objects = dataset.annotations()
    several = isinstance(dataset, ConcatDataset | Oversampled)
    parts = [part.annotations() for part in _parts(dataset)] if several else [objects]
    learnable = objects.labels[~objects.ignored]
    counts = np.bincount(learnable, minlength=len(dataset.classes)).tolist()
    errors = [problem for problem in dataset.problems if problem.severity == "error"]
    faulty = LeftOut(
        reason="faulty",
        count=len(errors),
        example=str(errors[0]) if errors else "",
        remedy="`detcfg check` lists what is faulty. Put it right.",
    )
    return DatasetReport(
        source=dataset.source,
        images=len(objects.sizes),
        empty=len(objects.sizes) - len(np.unique(objects.images)),
        objects=tuple(counts),
        ignored=int(objects.ignored.sum()),
        left_out=(*dataset.left_out, *([faulty] if errors else [])),
        warnings=(
            *_empty_classes(dataset, counts),
            *(_suspect(dataset.left_out) if any(counts) else ()),
            *_many_ignored(dataset, len(learnable)),
            *(warning for part in parts for warning in _far_outside(part)),
            *_notes(dataset.problems),
        ),
    )


def _in_brackets(groups: list[LeftOut]) -> str:
    """Counts by reason, each with an example."""
    each = "; ".join(f"{group.count:,} {group.reason}, such as {group.example}" for group in groups)
    return f" ({each})" if each else ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _empty_classes(dataset: Dataset, counts: list[int]) -> list[str]:
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if not absent or not any(counts):  # where nothing is to be learned, that is what is said
        return []
    which = f"{len(absent):,} of {len(counts):,} classes have" if len(counts) > 1 else "the class has"
    return [f"{which} no object: {_some([repr(name) for name in absent])}."]


def _suspect(groups: tuple[LeftOut, ...]) -> list[str]:
    return [
        f"{group.count:,} objects are {group.reason}, such as {group.example}. {group.remedy}"
        for group in groups
        if group.suspect
    ]


def _many_ignored(dataset: Dataset, learnable: int) -> list[str]:
    return [
        f"{group.count:,} objects are {group.reason}, and so ignored. {group.remedy}"
        for group in dataset.left_out
        if group.ignored and learnable and group.count > MANY * (learnable + group.count)
    ]


def _parts(dataset: Dataset) -> list[Dataset]:
    """The datasets that one is put together of: a tool may have written one of them otherwise."""
    if isinstance(dataset, Oversampled):
        return _parts(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return [part for inner in dataset.datasets for part in _parts(inner)]
    return [dataset]


def _far_outside(objects: Annotations) -> list[str]:
    """Boxes that reach far beyond their image."""
    if not len(objects.boxes):
        return []
    low, high = objects.boxes[:, :2], objects.boxes[:, 2:]
    limits = objects.sizes[objects.images, ::-1]
    beyond = np.maximum(high - limits, -low)  # (A, 2) pixels
    far = (beyond > np.maximum(FAR * limits, FAR_PIXELS)).any(axis=1)
    if not far.any():
        return []
    count, most = int(far.sum()), float(beyond[far].max())
    seem_corners = _seem_corners(low, high - low, limits)
    cause = (
        "All boxes look like [x1, y1, x2, y2] in the place of [x, y, width, height]: write width and height."
        if bool(seem_corners.all())
        else "What lies outside is cut off. Check that boxes and sizes belong to the same images."
    )
    what = "boxes leave their" if count > 1 else "box leaves its"
    return [f"{count:,} {what} image by far (up to {most:,.0f} pixels). {cause}"]


def _seem_corners(
    origins: NDArray[np.float32], sides: NDArray[np.float32], limits: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(A,): which boxes [x, y, width, height] would be corners [x1, y1, x2, y2] inside their image."""
    inside = (sides > origins) & (sides <= limits + 1)
    return inside[:, 0] & inside[:, 1]


def _notes(problems: tuple[Problem, ...]) -> list[str]:
    notes = [str(problem) for problem in problems if problem.severity == "note"]
    more = [f"{len(notes) - SHOWN:,} notes more like these; `detcfg check` lists them."]
    return notes[:SHOWN] + (more if len(notes) > SHOWN else [])
