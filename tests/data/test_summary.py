"""What is said of a dataset before a training: how much there is to learn, what is not learned and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from detcfg.data.concat import ConcatDatasetConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.errors import DataError
from detcfg.data.oversampled import Oversampled
from detcfg.data.summary import report
from tests.data import test_voc as voc
from tests.support.coco_files import Data, Spoil, write


def every(**values: Any) -> Spoil:
    """Set values of all annotations."""

    def spoil(data: Data) -> None:
        for annotation in data["annotations"]:
            annotation.update(values)

    return spoil


def test_a_line_counts_images_and_objects_with_an_example_of_each_reason(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        data["annotations"][0]["bbox"] = [5, 5, 0.2, 10]
        data["annotations"].append({**data["annotations"][1], "id": 9, "category_id": 9})

    found = report(write(tmp_path, spoil).dataset())
    assert found.line == (
        "3 images (1 without objects), 2 objects to learn, 1 ignored (1 crowd, such as annotation 4), 3 dropped "
        "(1 of other classes, such as annotation 9; 1 less than a pixel wide or high, such as annotation 1; "
        "1 marked by ignore, such as annotation 5)"
    )
    assert found.objects == (0, 2)
    assert found.warnings == ("1 of 2 classes have no object: 'dog'.",)
    found.check("data.train")


def test_whole_data_has_no_warning(tmp_path: Path) -> None:
    found = report(write(tmp_path).dataset(with_mask=True))
    assert (found.images, found.empty, found.total, found.ignored) == (3, 1, 3, 1)
    assert not found.warnings
    assert found.lines("data.train") == [f"data.train: {found.line}"]


NOTHING: dict[str, tuple[Spoil, str]] = {
    "no annotations": (
        lambda data: data["annotations"].clear(),
        "it annotates none. Check that it is the file",
    ),
    "a list of annotations that is not there": (lambda data: data.pop("annotations"), "it annotates none"),
    "crowds alone": (
        every(iscrowd=1),
        "4 crowd, such as annotation 1; 1 marked by ignore, such as annotation 5.",
    ),
    "boxes in fractions": (
        every(bbox=[0.1, 0.1, 0.3, 0.25]),
        "5 with boxes in fractions of the image (0 to 1), such as annotation 1. Multiply x and width",
    ),
    "boxes without width": (
        every(bbox=[5, 5, 0, 3]),
        "5 less than a pixel wide or high, such as annotation 1",
    ),
    "no area": (every(area=-600), "5 with an area of 0 or less, such as annotation 1. Correct the area"),
    "ignored by a flag": (
        every(ignore=1, iscrowd=0),
        "5 marked by ignore, such as annotation 1. Set ignore to 0",
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_learn_is_an_error_with_its_cause(tmp_path: Path, name: str) -> None:
    spoil, says = NOTHING[name]
    found = report(write(tmp_path, spoil).dataset())
    with pytest.raises(DataError) as caught:
        found.check("data.train")
    assert str(caught.value).startswith(f"data.train: {tmp_path}/all.json: there is no object to learn: ")
    assert says in str(caught.value)
    assert str(caught.value) in [
        line.removeprefix("warning: ").replace("data.val", "data.train") for line in found.lines("data.val")
    ]


def test_faulty_entries_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    found = report(write(tmp_path, every(category_id=5), drop_invalid=True).dataset())
    with pytest.raises(
        DataError, match=r"5 faulty, such as .*its category_id 5 has no name.*`detcfg check` lists"
    ):
        found.check("data.train")


def test_mostly_crowds_are_a_warning(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        for annotation in data["annotations"][1:4]:
            annotation["iscrowd"] = 1

    (warning, _) = sorted(report(write(tmp_path, spoil).dataset()).warnings, reverse=True)
    assert warning.startswith(
        "3 objects are crowd, and so ignored. Write iscrowd 0 for single objects: CVAT and"
    )


def corners(data: Data) -> None:
    """Write [x1, y1, x2, y2] in the place of [x, y, width, height]."""
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (corners, "1 box leaves its image by far (up to 30 pixels). All boxes look like [x1, y1, x2, y2]"),
        (
            lambda data: data["annotations"][2].update(bbox=[30, 20, 50, 5]),
            "1 box leaves its image by far (up to 40 pixels). What lies outside is cut off.",
        ),
        (
            lambda data: data["annotations"][0].update(bbox=[-30, 5, 50, 5]),
            "1 box leaves its image by far (up to 30 pixels). What lies outside is cut off.",
        ),
    ],
)
def test_boxes_far_outside_are_a_warning_with_the_likely_cause(
    tmp_path: Path, spoil: Spoil, says: str
) -> None:
    (warning,) = report(write(tmp_path, spoil).dataset()).warnings
    assert warning.startswith(says)


def test_a_few_pixels_beyond_the_border_are_no_matter(tmp_path: Path) -> None:
    assert not report(
        write(tmp_path, lambda data: data["annotations"][1].update(bbox=[-2, -3, 45, 36])).dataset()
    ).warnings


def test_names_in_the_files_that_no_class_has_are_a_warning(tmp_path: Path) -> None:
    files = {
        "a": voc.xml(voc.thing("Cat", (1, 1, 9, 9)), voc.thing("dog", (1, 1, 9, 9))),
        "b": voc.xml(voc.thing("Cat", (1, 1, 9, 9)), voc.thing("cow", (1, 1, 9, 9))),
    }
    found = report(voc.write(tmp_path, files).dataset())
    assert found.line.endswith("3 dropped (3 of other classes, such as 'Cat' (2), 'cow' (1))")
    absent, other = found.warnings
    assert absent == "1 of 2 classes have no object: 'cat'."
    assert other == (
        "3 objects are of other classes, such as 'Cat' (2), 'cow' (1). 'Cat' is not the class 'cat': names count "
        "with their case. Correct classes."
    )


def test_a_voc_set_of_names_in_another_case_has_nothing_to_learn(tmp_path: Path) -> None:
    config = voc.write(tmp_path, {"a": voc.xml(voc.thing("Cat", (1, 1, 9, 9)))})
    with pytest.raises(
        DataError, match=r"1 of other classes, such as 'Cat' \(1\). 'Cat' is not the class 'cat'"
    ):
        report(config.dataset()).check("data.train")


def test_difficult_objects_are_counted_as_ignored(tmp_path: Path) -> None:
    found = report(voc.write(tmp_path).dataset())
    assert "1 objects to learn, 1 ignored (1 difficult, such as object 2 of image a)" in found.line


def test_objects_of_small_images_are_counted_as_dropped(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        data["images"][0]["height"] = 29

    found = report(write(tmp_path, spoil, min_size=30).dataset())
    assert "2 images" in found.line
    assert "2 in images below min_size, such as those of image 10" in found.line


def test_what_is_put_together_is_counted_together(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", corners, filter_empty_gt=True)
    whole = ConcatDatasetConfig(classes=first.classes, datasets=(first, second)).resolved().dataset()
    found, parts = report(whole), [report(config.dataset()) for config in (first, second)]

    assert found.total == sum(part.total for part in parts)
    assert found.images == 5
    assert "2 ignored (2 crowd, such as annotation 4), 2 dropped (2 marked by ignore" in found.line
    assert "1 box leaves its image by far" in found.warnings[0]
    assert "All boxes look like [x1, y1, x2, y2]" in found.warnings[0]
    assert report(Oversampled(first.dataset(), 0.9)).line == parts[0].line


def test_a_dataset_of_ones_own_is_counted_by_its_targets() -> None:
    config = DemoDatasetConfig(num_images=4)
    dataset = config.dataset()
    found = report(dataset)

    assert found.total == sum(len(dataset.targets(index)) for index in range(4))
    assert found.line.startswith(
        f"4 images (0 without objects), {found.total} objects to learn, 0 ignored, 0 dropped"
    )
    assert "classes have no object" in "".join(report(evolve(config, num_images=1).dataset()).warnings)
