"""COCO's masks: polygons and run-length codes, equal to pycocotools, and safe from whoever wrote them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from detcfg.data.masks import Segmentations, area, counts_of, decode, encode, problem_of_code

MASKS = arrays.arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 40), st.integers(1, 40)))


def stored(segmentation: object, size: tuple[int, int]) -> Segmentations:
    segmentations = Segmentations()
    assert segmentations.append(segmentation, size) == ""
    return segmentations


@given(MASKS)
def test_masks_survive_encoding(masks: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    codes = encode(torch.as_tensor(masks))
    assert torch.equal(decode(codes, masks.shape[1:]), torch.as_tensor(masks))  # type: ignore[arg-type]
    for code, mask in zip(codes, masks, strict=True):
        reference = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert code == {"size": list(mask.shape), "counts": reference["counts"].decode()}
        assert area(code["counts"].encode()) == mask.sum()
        assert problem_of_code(code["counts"].encode(), mask.shape) == ""


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=30))
def test_counts_are_read_as_they_were_written(counts: list[int]) -> None:
    height = sum(counts)
    code = coco_mask.frPyObjects({"size": [height, 1], "counts": counts}, height, 1)["counts"]
    assert counts_of(code).tolist() == counts


@given(MASKS)
def test_an_object_is_stored_the_same_by_text_and_by_counts(
    masks: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> None:
    size: Any = masks.shape[1:]
    for code in encode(torch.as_tensor(masks)):
        plain = {"size": list(size), "counts": counts_of(code["counts"].encode()).tolist()}
        assert stored(code, size).code(0, size) == stored(plain, size).code(0, size)


@given(
    st.lists(
        st.lists(st.floats(-20, 60, allow_nan=False), min_size=6, max_size=14).map(
            lambda numbers: numbers[: len(numbers) // 2 * 2]
        ),
        min_size=1,
        max_size=3,
    )
)
def test_polygons_are_drawn_as_by_pycocotools(polygons: list[list[float]]) -> None:
    size = (40, 50)
    reference = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size)))
    drawn = stored(polygons, size).masks([0], size)[0].numpy()
    assert np.array_equal(drawn, reference.astype(bool))


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "no segmentation"),
        ("text", "no segmentation"),
        ([[1, 2, 3, 4, 5]], "an x without a y"),
        ([[1, 2, 3, "4", 5, 6]], "not a list of polygons"),
        ([1, 2, 3, 4, 5, 6], "not a list of polygons"),
        ([[1, 2, 3, float("nan"), 5, 6]], "not finite"),
        ([[1, 2, 3, 1e300, 5, 6]], "far outside the image"),
        ([[1, 2, 1e308, 1e308, 1e308, 6]], "not finite"),
        ({"size": [9, 9], "counts": "0"}, "has the size"),
        ({"size": [20, 30], "counts": [1, 2]}, "covers 3 pixels"),
        ({"size": [20, 30], "counts": [-5, 605]}, "negative count"),
        ({"size": [20, 30], "counts": [600.0]}, "neither a text nor a list"),
        ({"size": [20, 30], "counts": "zzzzzzzzz"}, "not a text that COCO's tools write"),
        ({"size": [20, 30], "counts": "\u00e9"}, "not a text that COCO's tools write"),
        ({"size": [20, 30], "counts": "oooooooooooooooooooo0"}, "its RLE"),
        ({"size": [20, 30]}, "neither a text nor a list"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: object, problem: str) -> None:
    segmentations = Segmentations()
    assert problem in segmentations.append(segmentation, (20, 30))
    assert segmentations.is_empty(0)
    assert not segmentations.masks([0], (20, 30)).any()


@given(st.binary(max_size=40))
def test_no_text_makes_the_decoder_read_beyond_the_mask(code: bytes) -> None:
    segmentations = Segmentations()
    text = code.decode("latin-1")
    if not segmentations.append({"size": [7, 5], "counts": text}, (7, 5)):
        assert segmentations.masks([0], (7, 5)).shape == (1, 7, 5)


def test_a_polygon_of_a_million_points_takes_memory_in_proportion() -> None:
    turns = np.linspace(0, 200 * np.pi, 1_000_000)
    points = np.stack((50 + 45 * np.cos(turns), 50 + 45 * np.sin(turns)), axis=1).ravel().tolist()
    tracemalloc.start()
    segmentations = stored([points], (100, 100))
    mask = segmentations.masks([0], (100, 100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    assert mask.any()


def test_objects_lie_side_by_side() -> None:
    segmentations = Segmentations()
    square, code = [[2, 2, 8, 2, 8, 8, 2, 8]], encode(torch.ones(1, 10, 10, dtype=torch.bool))[0]
    for item in (square, code, None, [square[0], [0, 0, 2, 0, 2, 1, 0, 1]], []):
        segmentations.append(item, (10, 10))
    masks = segmentations.masks(range(5), (10, 10))
    assert masks.sum(dim=(1, 2)).tolist() == [36, 100, 0, 38, 0]
    assert [segmentations.is_empty(i) for i in range(5)] == [False, False, True, False, True]
