"""Detections to COCO's average precision, equal to pycocotools (cocoeval.py there)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, cast, get_args

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from detcfg.data.base import Dataset
from detcfg.data.reading import read_json, records
from detcfg.errors import DetcfgError
from detcfg.evaluation import lvis
from detcfg.evaluation.detections_file import read_detections
from detcfg.evaluation.fast import fast_curves
from detcfg.evaluation.found import ImageDetections
from detcfg.evaluation.matching import IOU_THRESHOLDS, Curves, accumulate
from detcfg.evaluation.pairs import State, matches_by_class
from detcfg.evaluation.truth import GroundTruth, ImageId, IoUType, in_order_of_classes
from detcfg.structures import Detections

Backend: TypeAlias = Literal["numpy", "hotcoco"]

MAX_DETS: Final = (1, 10, 100)
"""How many detections of an image and class count, at most: one AR each, and the last for all AP."""


def check_max_dets(limits: tuple[int, ...]) -> tuple[int, ...]:
    """The limits of detections in rising order.

    Raises:
        DetcfgError: There is none, or one is below 1.
    """
    if not limits or min(limits) < 1:
        raise DetcfgError(f"max_dets is {limits}. Give one or several numbers from 1 on: {MAX_DETS}.")
    return tuple(sorted(set(limits)))


class Annotated(Protocol):
    """Whatever has annotations, such as a `detcfg.data.base.Dataset`."""

    def ground_truth(self) -> dict[str, Any]:
        """The annotations in COCO's format, and with VOC's `difficult`, which COCO's does not have."""
        ...


class CocoEvaluator:
    """Collects detections, image by image, and judges them.

    Images of which nothing was added count as images in which nothing was found.
    """

    backend: Backend = "numpy"
    """What computes: detcfg itself, or hotcoco (the extra `fast`), which gives the same in less time."""

    def __init__(
        self,
        dataset: Annotated,
        iou_types: tuple[IoUType, ...] = ("bbox",),
        *,
        max_dets: tuple[int, ...] = MAX_DETS,
        source: str | None = None,
    ) -> None:
        """Judge detections of a dataset.

        Args:
            dataset: What the detections are of.
            iou_types: Whether boxes ("bbox"), masks ("segm") or both are compared.
            max_dets: How many detections of an image and class count, at most: one AR each, and the greatest for all
                AP. LVIS's rule, 300 detections of an image, takes their place for annotations of LVIS.
            source: Where the annotations are from, for errors.

        Raises:
            DataError: The annotations do not have what is compared, or other categories than the dataset's classes.
            DetcfgError: `iou_types` or `max_dets` is not to be used.
        """
        if not iou_types or not set(iou_types) <= set(get_args(IoUType)):
            raise DetcfgError(f"iou_types is {iou_types!r}. Choose bbox, segm or both.")
        data, source = dataset.ground_truth(), source or type(dataset).__name__
        if isinstance(dataset, Dataset):
            data = in_order_of_classes(data, dataset.classes, source)
        self._truths: dict[IoUType, GroundTruth] = {
            kind: GroundTruth.of(data, source, kind) for kind in iou_types
        }
        self.truth = self._truths[iou_types[0]]
        self.max_dets = check_max_dets(max_dets) if self.truth.lvis is None else (lvis.MAX_DETS,)
        """The limits that hold."""
        self.left_out = 0
        """Detections of a file whose category is none of the annotations."""
        self._found: dict[ImageId, ImageDetections] = {}
        self._size_of = dict(zip(self.truth.image_ids, self.truth.sizes, strict=True))
        self._results: dict[IoUType, Curves] = {}

    @classmethod
    def from_files(
        cls,
        gt_path: str | Path,
        dt_path: str | Path,
        iou_type: IoUType,
        *,
        max_dets: tuple[int, ...] = MAX_DETS,
    ) -> CocoEvaluator:
        """Judge a COCO file of detections by a COCO file of annotations.

        Raises:
            DataError: A file is absent, broken, or does not belong to the other.
        """
        evaluator = cls(_File(gt_path), (iou_type,), max_dets=max_dets, source=str(gt_path))
        found, evaluator.left_out = read_detections(dt_path, evaluator.truth, iou_type)
        evaluator.merge(found)
        return evaluator

    def add(self, image_id: ImageId, detections: Detections) -> None:
        """Take the detections of an image, in the pixels of the original image.

        Raises:
            DetcfgError: A detection is not finite, or there are no masks and they are to be judged.
            ValueError: The image is unknown or was added before, or the masks have another size.
        """
        if image_id not in self._size_of or image_id in self._found:
            known = "was added before" if image_id in self._found else "is none of the dataset"
            raise ValueError(f"image {image_id!r} {known}")
        if "segm" in self._truths:
            if detections.masks is None:
                raise DetcfgError(
                    "iou_types asks for masks (segm), and the model finds none. Leave segm out."
                )
            if tuple(detections.masks.shape[1:]) != self._size_of[image_id] and len(detections):
                given = tuple(detections.masks.shape[1:])
                raise ValueError(
                    f"image {image_id!r} has {self._size_of[image_id]} pixels, its masks {given}"
                )
        self._results = {}
        self._found[image_id] = ImageDetections.of(image_id, detections)

    def clear(self) -> None:
        """Forget all that was added, to judge other detections of the same images."""
        self._results, self._found = {}, {}

    @property
    def state(self) -> State:
        """All that was added."""
        return self._found

    def merge(self, other: State) -> None:
        """Take over what another process's evaluator collected; images known here already stay as they are."""
        self._results = {}
        self._found = {**other, **self._found}

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the numbers that `compute` gives, in its order. They depend on the annotations alone."""
        return tuple(
            f"{kind}_{name}"
            for kind, truth in self._truths.items()
            for name in _metrics(truth.lvis, self.max_dets)
        )

    def compute(self) -> dict[str, float]:
        """COCO's twelve numbers, or LVIS's thirteen, for each IoU type, from 0 to 1; -1 where there is no ground truth.

        `bbox_AP` is the mean over IoU thresholds from 0.5 to 0.95, `bbox_AP50` and `bbox_AP75` are at one,
        `bbox_APs`, `bbox_APm`, `bbox_APl` are of small, medium and large objects. `bbox_AR1`, `bbox_AR10` and
        `bbox_AR100` are the recalls with so many detections an image and class (see `max_dets`); `bbox_ARs` ...
        with the most.
        LVIS's thirteen have `bbox_APr`, `bbox_APc`, `bbox_APf` of rare, common and frequent classes, and
        `bbox_AR300`.
        """
        return {
            f"{kind}_{name}": _mean(getattr(self._curves(kind), curve)[index])
            for kind, truth in self._truths.items()
            for name, (curve, index) in _metrics(truth.lvis, self.max_dets).items()
        }

    def summary(self) -> str:
        """AP and AP50 of each IoU type, for a line of a log."""
        numbers = self.compute()
        return "  ".join(
            f"{kind} AP {numbers[f'{kind}_AP']:.3f} AP50 {numbers[f'{kind}_AP50']:.3f}"
            for kind in self._truths
        )

    def per_class(self, iou_type: IoUType | None = None) -> dict[str, ClassResult]:
        """The average precision and recall of each class, by its name.

        Args:
            iou_type: What is compared; None: the first of `iou_types`.
        """
        kind: IoUType = next(iter(self._truths)) if iou_type is None else iou_type
        curves, truth = self._curves(kind), self._truths[kind]
        counts = np.bincount(truth.labels[~truth.ignored], minlength=len(truth.names))
        results: dict[str, ClassResult] = {}
        for label, name in enumerate(truth.names):
            precision = curves.precision[:, :, label, 0, -1]
            key = f"{name} ({truth.category_ids[label]})" if name in results else name
            results[key] = ClassResult(
                objects=int(counts[label]),
                AP=_mean(precision),
                AP50=_mean(precision[IOU_THRESHOLDS == 0.5]),
                AR100=_mean(curves.recall[:, label, 0, -1]),
            )
        return results

    def out_of_reach(self) -> OutOfReach:
        """The objects that cannot be found since an image has more of them than detections count."""
        truth, limit = self.truth, self.max_dets[-1]
        rows = np.repeat(np.arange(len(truth.image_ids)), np.diff(truth.offsets))
        labels = (
            truth.labels if truth.lvis is None else np.zeros_like(truth.labels)
        )  # LVIS's limit is an image's
        pairs = rows[~truth.ignored] * max(1, len(truth.names)) + labels[~truth.ignored]
        counts = np.unique(pairs, return_counts=True)[1]
        return OutOfReach(
            objects=int(counts.sum()),
            lost=int(np.maximum(counts - limit, 0).sum()),
            most=int(counts.max(initial=0)),
            limit=limit,
            by_class=truth.lvis is None,
        )

    def detections(self) -> list[dict[str, Any]]:
        """The detections as entries of COCO's json, image by image, with the category ids of the data."""
        return [
            entry
            for image_id in self.truth.image_ids
            if image_id in self._found
            for entry in self._found[image_id].entries(image_id, self.truth.category_ids)
        ]

    def _curves(self, iou_type: IoUType) -> Curves:
        if iou_type not in self._results:
            truth = self._truths[iou_type]
            limits = self.max_dets
            curves = fast_curves(truth, self._found, limits) if self.backend == "hotcoco" else None
            if curves is None:
                classes = matches_by_class(truth, self._found, limits[-1])
                curves = accumulate(classes, len(truth.names), limits)
            self._results[iou_type] = curves
        return self._results[iou_type]


@frozen(kw_only=True)
class OutOfReach:
    """Objects beyond the number of detections that count."""

    objects: int
    """All that are to be found."""
    lost: int
    """How many of them no detection can match."""
    most: int
    """The most in an image, of a class if `by_class`."""
    limit: int
    """The detections that count."""
    by_class: bool

    def __str__(self) -> str:
        """A sentence with the remedy; empty if all are in reach."""
        if not self.lost:
            return ""
        each = "of a class in an image" if self.by_class else "in an image"
        share = 100 * self.lost / self.objects
        remedy = " Raise max_dets, and with it the detections that the model gives." if self.by_class else ""
        return (
            f"{self.lost:,} of {self.objects:,} objects ({share:.1f}%) are out of reach: there are up to {self.most:,} {each}, "
            f"and {self.limit:,} detections count.{remedy}"
        )


@frozen(kw_only=True)
class ClassResult:
    """The average precision and recall of one class, from 0 to 1; -1 where it has no ground truth."""

    objects: int
    """Ground-truth objects, ignored ones left out (crowd, difficult)."""
    AP: float
    AP50: float
    AR100: float
    """With 100 detections an image and class, or the most of `max_dets`; with LVIS's 300 an image, for data of
    LVIS."""


class _File:
    def __init__(self, path: str | Path) -> None:
        self.path = path

    def ground_truth(self) -> Any:
        """What the file holds; COCO has no difficult objects, so that what stands there does not count."""
        data = read_json(self.path, "Correct the path of the annotations.")
        if isinstance(data, dict):
            for annotation in records(cast("dict[str, Any]", data), "annotations"):
                annotation.pop("difficult", None)
        return cast("Any", data)


def evaluate_files(
    gt_path: str | Path,
    dt_path: str | Path,
    iou_type: IoUType = "bbox",
    *,
    max_dets: tuple[int, ...] = MAX_DETS,
) -> dict[str, float]:
    """The numbers of `CocoEvaluator.compute` for two COCO files, annotations and detections.

    The area of a detection is that of what is compared: of its mask for segm even where it has a box too.

    Raises:
        DataError: A file is absent, broken, or does not belong to the other.
    """
    return CocoEvaluator.from_files(gt_path, dt_path, iou_type, max_dets=max_dets).compute()


def _metrics(
    federated: lvis.Lvis | None, limits: tuple[int, ...]
) -> dict[str, tuple[Literal["precision", "recall"], Any]]:
    """COCO's twelve numbers in COCO's order, or LVIS's thirteen: the mean of which curve, at which of its indices."""
    at = {f"{threshold:.0f}": i for i, threshold in enumerate(IOU_THRESHOLDS * 100)}
    areas = {"s": 1, "m": 2, "l": 3}  # 0: of any size
    rarities = {} if federated is None else {kind: federated.labels(kind) for kind in lvis.FREQUENCIES}
    return {
        "AP": ("precision", np.s_[:, :, :, 0, -1]),
        **{f"AP{t}": ("precision", np.s_[at[t], :, :, 0, -1]) for t in ("50", "75")},
        **{f"AP{size}": ("precision", np.s_[:, :, :, area, -1]) for size, area in areas.items()},
        **{f"AP{kind}": ("precision", np.s_[:, :, labels, 0, -1]) for kind, labels in rarities.items()},
        **{f"AR{most}": ("recall", np.s_[:, :, 0, limit]) for limit, most in enumerate(limits)},
        **{f"AR{size}": ("recall", np.s_[:, :, area, -1]) for size, area in areas.items()},
    }


def _mean(values: NDArray[np.float64]) -> float:
    """The mean over what is defined; -1 if nothing is."""
    defined = values[values > -1]
    return float(defined.mean()) if len(defined) else -1.0
