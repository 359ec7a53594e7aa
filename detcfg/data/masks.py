"""Masks as COCO writes them: polygons and run-length codes (RLE).

An RLE counts pixels column by column, alternately outside and inside the mask, from an outside run
on. Compressed, each count is a few ASCII characters.
"""

from __future__ import annotations

import math
import warnings
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]

_MARGIN = 16
"""A polygon may leave its image, but not by more than this many times the image's size: drawing one
takes memory in proportion to its extent."""
_THIN = 2.0
"""Pixels: a polygon that is no thicker on average may pass between the centres of all pixels."""
_DOUBTFUL_CODE = 16
"""Bytes: a longer code has a pixel in all likelihood."""
_CHUNK = 1 << 16
"""Polygons that are looked at together, which bounds the memory."""


def encode(masks: Tensor) -> list[dict[str, Any]]:
    """Masks (N, H, W) bool as compressed RLE, ready for JSON."""
    from pycocotools import mask as coco_mask

    if not len(masks):
        return []
    # COCO's masks lie column by column; transposing in torch is faster than in NumPy.
    columns = masks.to("cpu", torch.uint8).transpose(1, 2).contiguous()
    codes = coco_mask.encode(columns.numpy().transpose(2, 1, 0))
    return [{"size": list(code["size"]), "counts": code["counts"].decode("ascii")} for code in codes]


def decode(codes: Sequence[Mapping[str, Any]], size: Size) -> Tensor:
    """Compressed RLE to masks (N, H, W) bool."""
    from pycocotools import mask as coco_mask

    if not codes:
        return torch.zeros((0, *size), dtype=torch.bool)
    with warnings.catch_warnings():
        # NumPy 2 says that pycocotools' arrays cannot be taken without a copy, which it is asked for.
        warnings.simplefilter("ignore", DeprecationWarning)
        columns = coco_mask.decode([dict(code) for code in codes])  # (H, W, N), column by column
    return torch.as_tensor(columns.transpose(2, 1, 0)).transpose(1, 2).contiguous().view(torch.bool)


def counts_of(code: bytes) -> NDArray[np.int64]:
    """The counts of a compressed RLE.

    Five bits a character, lowest first; bit 6 says that more follow; from the third count on, the
    difference to the count two before is written.
    """
    characters = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((characters & 32) == 0)
    if not len(ends):
        return np.zeros(0, dtype=np.int64)
    characters = characters[: ends[-1] + 1]
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((characters & 31) << np.minimum(5 * place, 55), starts)
    negative = (characters[ends] & 16) != 0
    values[negative] -= 1 << np.minimum(5 * (place[ends][negative] + 1), 60)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def area(code: bytes) -> int:
    """The pixels inside a compressed RLE."""
    return int(counts_of(code)[1::2].sum())


def problem_of_code(code: bytes, size: Size) -> str:
    """Why a compressed RLE is no mask of (height, width); empty if it is one.

    pycocotools reads memory that is not its own where the counts add up to something else.
    """
    characters = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    if ((characters < 0) | (characters > 63)).any() or (len(characters) and characters[-1] & 32):
        return "its RLE is not a text that COCO's tools write"
    return _problem_of_counts(counts_of(code).tolist(), size)


def _problem_of_counts(counts: list[int], size: Size) -> str:
    if counts and min(counts) < 0:
        return "its RLE has a negative count"
    if sum(counts) != size[0] * size[1]:
        return f"its RLE covers {sum(counts)} pixels, and the image has {size[1]}x{size[0]}"
    return ""


class Segmentations:
    """The masks of many objects in little memory, decoded when asked for.

    They lie in a few flat arrays, which worker processes share without copying.
    """

    def __init__(self) -> None:
        self._coordinates = array("d")
        self._polygon_ends = array("q", [0])
        self._polygons_until = array("q", [0])
        self._codes = bytearray()
        self._code_ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._code_ends) - 1

    def append(self, segmentation: object, size: Size) -> str:
        """Take the next object's mask; say what is wrong with it, or nothing.

        A mask with a fault is stored empty. Polygons of fewer than three points are left out.
        """
        problem = ""
        if isinstance(segmentation, dict):
            problem = self._append_code(cast("dict[str, object]", segmentation), size)
        elif isinstance(segmentation, list):
            problem = self._append_polygons(cast("list[object]", segmentation), size)
        else:
            problem = "it has no segmentation"
        self._polygons_until.append(len(self._polygon_ends) - 1)
        self._code_ends.append(len(self._codes))
        return problem

    def _append_polygons(self, polygons: list[object], size: Size) -> str:
        limit = _MARGIN * max(size)
        for polygon in polygons:
            if not isinstance(polygon, list) or not _are_numbers(cast("list[object]", polygon)):
                return "its segmentation is not a list of polygons of numbers"
            numbers = cast("list[float]", polygon)
            if len(numbers) % 2:
                return "its polygon has an x without a y"
            if numbers and not math.isfinite(sum(numbers)):
                return "its polygon has a coordinate that is not finite"
            if numbers and not -limit <= min(numbers) <= max(numbers) <= limit:
                return "its polygon lies far outside the image"
        for polygon in cast("list[list[float]]", polygons):
            if len(polygon) >= 6:
                self._coordinates.extend(polygon)
                self._polygon_ends.append(len(self._coordinates))
        return ""

    def _append_code(self, rle: Mapping[str, object], size: Size) -> str:
        counts, given = rle.get("counts"), rle.get("size")
        if not isinstance(given, list) or tuple(cast("list[object]", given)) != size:
            return f"its RLE has the size {given}, and the image [{size[0]}, {size[1]}]"
        if isinstance(counts, str):
            code = counts.encode("utf-8")
            problem = problem_of_code(code, size)
        elif isinstance(counts, list) and all(type(n) is int for n in cast("list[object]", counts)):
            problem = _problem_of_counts(cast("list[int]", counts), size)
            code = b"" if problem else _compress(cast("list[int]", counts), size)
        else:
            return "its RLE has neither a text nor a list of whole numbers as counts"
        if not problem:
            self._codes += code
        return problem

    def is_empty(self, index: int) -> bool:
        """Whether nothing was stored for an object."""
        return bool(
            self._code_ends[index] == self._code_ends[index + 1]
            and self._polygons_until[index] == self._polygons_until[index + 1]
        )

    def are_absent(self) -> NDArray[np.bool_]:
        """(A,): of which objects nothing was stored."""
        codes, polygons = np.diff(self._code_ends), np.diff(self._polygons_until)
        absent: NDArray[np.bool_] = np.asarray((codes == 0) & (polygons == 0))
        return absent

    def are_empty(self, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(A,): whose masks have no pixel.

        Args:
            sizes: (A, 2), the (height, width) of the image of each object.
        """
        polygons, codes = np.diff(self._polygons_until), np.diff(self._code_ends)
        owners = np.repeat(np.arange(len(self)), polygons)
        doubtful = np.ones(len(self), dtype=bool)
        doubtful[owners[~self._doubtful_polygons(sizes[owners])]] = False
        # Runs that are outside alone, between which lie runs of 0, take few characters.
        doubtful[codes > _DOUBTFUL_CODE] = False
        empty = self.are_absent()
        for i in np.flatnonzero(doubtful & ~empty).tolist():
            height, width = sizes[i].tolist()
            empty[i] = area(bytes(self.code(i, (height, width))["counts"])) == 0
        return empty

    def _doubtful_polygons(self, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(P,): polygons that may have no pixel in their images (P, 2): slivers, and those that leave them."""
        doubtful = [np.zeros(0, dtype=bool)]
        ends = np.array(self._polygon_ends) // 2
        for first in range(0, len(ends) - 1, _CHUNK):
            here = ends[first : first + _CHUNK + 1]
            points = np.array(self._coordinates[2 * here[0] : 2 * here[-1]]).reshape(-1, 2)
            starts = here[:-1] - here[0]
            following = np.arange(1, len(points) + 1)
            following[here[1:] - here[0] - 1] = starts
            (x, y), (next_x, next_y) = points.T, points[following].T
            areas = np.abs(np.add.reduceat(x * next_y - next_x * y, starts)) / 2
            low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
            thin = areas < _THIN * np.maximum((high - low).max(axis=1), _THIN)
            leaves = (low < 0) | (high > sizes[first : first + _CHUNK, ::-1])
            doubtful.append(thin | leaves.any(axis=1))
        return np.concatenate(doubtful)

    def code(self, index: int, size: Size) -> dict[str, Any]:
        """An object's mask as compressed RLE."""
        from pycocotools import mask as coco_mask

        start, end = self._code_ends[index], self._code_ends[index + 1]
        if end > start:
            return {"size": list(size), "counts": bytes(self._codes[start:end])}
        polygons = [
            self._coordinates[self._polygon_ends[i] : self._polygon_ends[i + 1]].tolist()
            for i in range(self._polygons_until[index], self._polygons_until[index + 1])
        ]
        if not polygons:
            return {"size": list(size), "counts": _compress([size[0] * size[1]], size)}
        return coco_mask.merge(coco_mask.frPyObjects(polygons, *size))

    def masks(self, indices: Iterable[int], size: Size) -> Tensor:
        """The masks (N, H, W) bool of some objects of one image of (height, width)."""
        return decode([self.code(index, size) for index in indices], size)


def _are_numbers(values: list[object]) -> bool:
    return all(type(value) in (float, int) for value in values)


def _compress(counts: list[int], size: Size) -> bytes:
    from pycocotools import mask as coco_mask

    code: bytes = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
    return code
