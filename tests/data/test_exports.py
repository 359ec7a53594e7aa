"""COCO's json as labelling tools write it: what is meant is read, and what cannot be is named as what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.errors import DataError
from detcfg.data.files import FileDataset
from detcfg.data.images import seen_from
from detcfg.data.masks import Segmentations
from tests.support.coco_files import Data, Spoil, write


def same(found: FileDataset, expected: FileDataset) -> bool:
    """Whether two datasets have the same objects."""
    pairs = [(found.targets(i), expected.targets(i)) for i in range(len(expected))]
    return len(found) == len(expected) and all(
        torch.equal(a.boxes, b.boxes)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.ignored_boxes, b.ignored_boxes)
        for a, b in pairs
    )


def flags(value: object) -> Spoil:
    """Write the flags that are 0 in another way."""

    def spoil(data: Data) -> None:
        for annotation in data["annotations"]:
            annotation |= {key: value for key in ("iscrowd", "ignore") if not annotation.get(key)}

    return spoil


def whole_floats(data: Data) -> None:
    for kind in ("images", "annotations", "categories"):
        for entry in data[kind]:
            entry.update({key: float(entry[key]) for key in entry if key == "id" or key.endswith("_id")})


def sizes(value: object) -> Spoil:
    def spoil(data: Data) -> None:
        for image in data["images"]:
            image |= {"height": value, "width": value}

    return spoil


def rename(change: Any) -> Spoil:
    def spoil(data: Data) -> None:
        for image in data["images"]:
            image["file_name"] = change(image["file_name"])

    return spoil


def root_category(data: Data) -> None:
    """As Roboflow writes it: named like a class, and the supercategory of all."""
    for category in data["categories"]:
        category["supercategory"] = "cat"
    data["categories"].insert(0, {"id": 0, "name": "cat", "supercategory": "none"})


SAME: dict[str, Spoil] = {
    "flags as texts": flags("0"),
    "flags as words": flags("False"),
    "flags as floats": flags(0.0),
    "empty flags": flags(""),
    "null flags": flags(None),
    "ids as whole floats": whole_floats,
    "sizes as whole floats": lambda data: [i.update(height=30.0, width=40.0) for i in data["images"]],
    "null sizes": sizes(None),
    "sizes of NaN": sizes(float("nan")),
    "no sizes": lambda data: [(i.pop("height"), i.pop("width")) for i in data["images"]],
    "backslashes": rename(lambda name: name.replace("/", "\\")),
    "a folder that is this one": rename(lambda name: f"./{name}"),
    "a root category of a class's name": root_category,
    "difficult objects": lambda data: [a.update(difficult="1") for a in data["annotations"]],
}


@pytest.mark.parametrize("name", SAME)
def test_what_a_tool_means_is_read(tmp_path: Path, name: str) -> None:
    expected, found = write(tmp_path / "a").dataset(), write(tmp_path / "b", SAME[name]).dataset()
    assert same(found, expected)
    assert all(problem.severity == "note" for problem in found.problems)
    first, second = found.ground_truth(), expected.ground_truth()
    assert [(i["id"], i["height"], i["width"]) for i in first["images"]] == [
        (i["id"], i["height"], i["width"]) for i in second["images"]
    ]
    keys = ("id", "image_id", "category_id", "bbox")
    assert [[a[key] for key in keys] for a in first["annotations"]] == [
        [a[key] for key in keys] for a in second["annotations"]
    ]
    assert not any(a.get("difficult") for a in first["annotations"])


def test_absolute_paths_inside_the_image_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    expected = write(folder).dataset()
    assert same(write(folder, rename(lambda name: str(folder / name))).dataset(), expected)
    assert same(write(folder, rename(lambda name: f"{folder}/sub/../{name}")).dataset(), expected)

    (tmp_path / "link").symlink_to(folder)
    linked = write(tmp_path / "link", rename(lambda name: str(folder / name)))
    assert same(linked.dataset(), expected)


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png"])
def test_an_absolute_path_does_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    config = write(folder, lambda data: data["images"][0].update(file_name=f"{folder}/{name}"))
    Image.new("RGB", (40, 30)).save(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of the image folder"):
        config.dataset()


def test_a_path_of_another_machine_is_named_with_the_file_that_is_here(tmp_path: Path) -> None:
    for name in ("/home/someone/pictures/a.png", "C:\\pictures\\a.png"):
        config = write(tmp_path, lambda data, name=name: data["images"][0].update(file_name=name))  # type: ignore[misc]
        with pytest.raises(
            DataError, match=rf"leads out of the image folder. Write it as seen from {tmp_path}, "
        ) as e:
            config.dataset()
        assert "which has a a.png: 'a.png'." in str(e.value)


def test_names_are_seen_from_the_folder(tmp_path: Path) -> None:
    assert seen_from(tmp_path, str(tmp_path / "a" / "b.jpg")) == "a/b.jpg"
    assert seen_from(tmp_path, "a/b.jpg") == "a/b.jpg"
    assert seen_from(tmp_path, f"{tmp_path}-2/b.jpg") == f"{tmp_path}-2/b.jpg"
    for odd in ("\0", "", None, 3, "/" + "a" * 5000):
        assert seen_from(tmp_path, odd) == odd


def _category(**values: Any) -> Spoil:
    def spoil(data: Data) -> None:
        data["categories"][0] |= values

    return spoil


def _annotation(**values: Any) -> Spoil:
    def spoil(data: Data) -> None:
        data["annotations"][0] |= values

    return spoil


def with_panoptic_segments(data: Data) -> None:
    data["annotations"] = [
        {"image_id": 10, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 7}]}
    ]


SAID: dict[str, tuple[Spoil, str]] = {
    "category id of a text": (
        _category(id="7"),
        "category 7: its id is the text '7'. Write it as a number, without quotes.",
    ),
    "category_id of a text": (
        _annotation(category_id="7"),
        "annotation 1: its category_id is the text '7', and should be the number 7",
    ),
    "image_id of a text": (
        _annotation(image_id="10"),
        "annotation 1: its image_id is the text '10', and should be the number 10",
    ),
    "image_id of a number where ids are texts": (
        lambda data: data["images"][0].update(id="10"),
        "annotation 1: its image_id is the number 10, and should be the text '10'",
    ),
    "image_id of a half": (_annotation(image_id=10.5), "its image_id 10.5 is no image of the file"),
    "panoptic": (
        with_panoptic_segments,
        "COCO's panoptic format (segments_info), which name no boxes. Convert them",
    ),
    "two categories of one name": (
        _category(id=11, name="dog"),
        "classes names 'cat', which is no category of the file",
    ),
    "two categories of one name with objects": (
        lambda data: (
            data["categories"][1].update(id=12, name="cat") or data["annotations"][0].update(category_id=12)
        ),
        "categories 7 and 12 are both called 'cat'",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    spoil, says = SAID[name]
    with pytest.raises(DataError) as caught:
        write(tmp_path, spoil).dataset()
    assert says in str(caught.value)


def test_a_size_that_nobody_gives_is_that_of_an_image_that_is_not_damaged(tmp_path: Path) -> None:
    config = write(tmp_path, sizes(None))
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(
        DataError, match=r"image 10: it has no height and width, and its file does not say: .*a.png"
    ):
        config.dataset()


def test_a_size_that_nobody_gives_is_turned_as_the_image_is(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        sizes(None)(data)
        data["annotations"].clear()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (40, 30)).save(tmp_path / "a.png", exif=exif)

    assert write(tmp_path, spoil).dataset()[0].info.size == (40, 30)
    assert write(tmp_path, spoil, ignore_orientation=True).dataset()[0].info.size == (30, 40)


@pytest.mark.parametrize("area", [0, -600])
def test_a_sound_box_without_an_area_is_dropped_for_its_area(tmp_path: Path, area: float) -> None:
    dataset = write(tmp_path, _annotation(area=area)).dataset()
    (report,) = dataset.problems
    assert f"annotation 1: its area is {area}, though its bbox [5, 5, 20, 10] is sound. It is not" in str(
        report
    )
    assert dataset.targets(0).labels.tolist() == [1]


def test_no_flag_is_reported_and_taken_for_none(tmp_path: Path) -> None:
    dataset = write(tmp_path, _annotation(iscrowd="maybe", ignore=[1])).dataset()
    assert [str(problem).partition(": annotation ")[2] for problem in dataset.problems] == [
        "1: its iscrowd is 'maybe', which is no flag. It is taken for 0: write 0 or 1.",
        "1: its ignore is [1], which is no flag. It is taken for 0: write 0 or 1.",
    ]
    assert len(dataset.targets(0).not_ignored) == 2


@pytest.mark.parametrize(
    ("other", "says"), [([1, 1, 9, 9], "with different objects. Keep one"), (None, ". It counts")]
)
def test_one_file_under_two_ids_is_reported(tmp_path: Path, other: list[int] | None, says: str) -> None:
    def spoil(data: Data) -> None:
        data["images"].append({**data["images"][0], "id": 99})
        for number, annotation in enumerate(data["annotations"][:3:2], start=50):
            twin = {**annotation, "id": number, "image_id": 99}
            data["annotations"].append(twin if other is None else {**twin, "bbox": other})

    (note,) = write(tmp_path, spoil).dataset().problems
    assert f"images 10 and 99: they are one file, {tmp_path}/a.png" in str(note)
    assert says in str(note)


OUTSIDE = [[-60.0, -50, -59, -60, -90, -80]]


@pytest.mark.parametrize(
    "segmentation",
    [
        OUTSIDE,
        [[100, 5, 120, 5, 120, 20]],
        [[5, 100, 9, 100, 9, 120]],
        [[5, 5.1, 25, 5.1, 25, 5.15, 5, 5.15]],
        [[-10, 5, 5, -10, -10, -10]],
        {"size": [30, 40], "counts": [1200]},
        {"size": [30, 40], "counts": [600, 0, 600]},
    ],
)
def test_a_mask_without_a_pixel_makes_an_ignored_object(tmp_path: Path, segmentation: object) -> None:
    config = write(tmp_path, _annotation(segmentation=segmentation))
    dataset = config.dataset(with_mask=True)
    targets = dataset[0].targets
    assert targets.ignored is not None
    assert targets.ignored.tolist() == [True, False]
    assert targets.masks is not None
    assert targets.masks.sum(dim=(1, 2)).tolist() == [0, 100]
    (report,) = dataset.problems
    assert (
        "annotation 1 of image 10: its segmentation covers no pixel of the image. The object is ignored"
        in str(report)
    )
    assert not config.dataset().problems


def test_masks_are_empty_where_they_have_no_pixel_when_drawn() -> None:
    chance = torch.Generator().manual_seed(0)
    segmentations, size = Segmentations(), (30, 40)
    for number in range(400):
        extent = (0.5, 3.0, 30.0)[number % 3]
        centre = torch.rand(2, generator=chance) * 80 - 20
        points = centre + extent * (torch.rand((3 + number % 3, 2), generator=chance) - 0.5)
        again = [] if number % 5 else [points.flip(0).flatten().tolist()]
        assert not segmentations.append([points.flatten().tolist(), *again], size)
    sizes_of = torch.tensor([size]).repeat(400, 1).numpy()
    drawn = segmentations.masks(range(400), size).sum(dim=(1, 2)) == 0

    assert 50 < int(drawn.sum()) < 350
    assert segmentations.are_empty(sizes_of).tolist() == drawn.tolist()


@pytest.mark.parametrize("value", [[], None])
def test_boxes_alone_are_no_masks(tmp_path: Path, value: object) -> None:
    def spoil(data: Data) -> None:
        for annotation in data["annotations"]:
            annotation["segmentation"] = value

    config = write(tmp_path, spoil)
    assert len(config.dataset()) == 3
    with pytest.raises(
        DataError, match=r"all.json: with_mask is true, and none of its 4 objects has a mask"
    ) as caught:
        config.dataset(with_mask=True)
    assert "Set with_mask to false" in str(caught.value)


def test_some_boxes_without_a_mask_are_ignored_objects(tmp_path: Path) -> None:
    dataset = write(tmp_path, _annotation(segmentation=[])).dataset(with_mask=True)
    assert dataset.targets(0).not_ignored.labels.tolist() == [1]
    assert [(group.reason, group.count) for group in dataset.left_out if group.ignored] == [
        ("crowd", 1),
        ("without a mask", 1),
    ]


def test_a_root_category_is_told_by_its_supercategory_where_no_class_has_objects(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        root_category(data)
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] != 7]

    dataset = write(tmp_path, spoil).dataset()
    assert [c["id"] for c in dataset.ground_truth()["categories"]] == [11, 7]


def test_a_root_category_of_another_name_is_no_matter(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        data["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})

    assert same(write(tmp_path / "b", spoil).dataset(), write(tmp_path / "a").dataset())


def test_label_studio_export_is_read_as_it_is(tmp_path: Path) -> None:
    """file_name with a backslash, ids from 0, segmentation [], null sizes."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 50)).save(tmp_path / "images" / "0a1b-photo.png")
    data = {
        "images": [{"width": None, "height": None, "id": 0, "file_name": "images\\0a1b-photo.png"}],
        "categories": [{"id": 0, "name": "planet"}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 0,
                "segmentation": [],
                "bbox": [29.5, 6.25, 37.1, 26.0],
                "ignore": 0,
                "iscrowd": 0,
                "area": 964.6,
            }
        ],
        "info": {},
    }
    (tmp_path / "result.json").write_text(json.dumps(data))
    dataset = CocoDatasetConfig(
        data_root=str(tmp_path), ann_file="result.json", img_prefix=".", classes=("planet",)
    ).dataset()
    assert dataset[0].image.shape == (3, 50, 80)
    assert dataset[0].targets.boxes.tolist() == [pytest.approx([29.5, 6.25, 66.6, 32.25])]
