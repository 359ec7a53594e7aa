"""COCO's json: what is learnt, what is ignored, and what is refused with its place and a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from attrs import evolve
from PIL import Image

from detcfg.data.errors import DataError
from detcfg.data.transforms import Pipeline, ResizeConfig
from tests.support.coco_files import Data, Spoil, write


def test_labels_follow_the_classes_whatever_the_category_ids(tmp_path: Path) -> None:
    dataset = write(tmp_path).dataset()
    assert [dataset.info(i).image_id for i in range(len(dataset))] == [10, 20, 30]
    first = dataset[0].targets
    assert first.labels.tolist() == [0, 1]
    assert first.boxes.tolist() == [[5, 5, 25, 15], [30, 20, 40, 30]]


def test_an_image_in_a_sub_folder_is_found_and_read(tmp_path: Path) -> None:
    sample = write(tmp_path).dataset()[1]
    assert sample.image.shape == (3, 30, 40)
    assert (sample.image[0] == 20).all()
    assert sample.info.path.endswith("sub/b.png")


def test_crowds_are_ignored_in_training_and_stay_crowds_in_evaluation(tmp_path: Path) -> None:
    dataset = write(tmp_path).dataset()
    targets = dataset[1].targets
    assert targets.ignored is not None
    assert targets.ignored.tolist() == [False, True]
    assert [a["id"] for a in dataset.ground_truth()["annotations"] if a["iscrowd"]] == [4]


def test_images_without_objects_stay_unless_they_are_filtered_out(tmp_path: Path) -> None:
    assert len(write(tmp_path).dataset()) == 3
    config = write(tmp_path, filter_empty_gt=True)
    assert len(config.dataset()) == 2
    assert {image["id"] for image in config.dataset().ground_truth()["images"]} == {10, 20}


def test_categories_that_are_not_learnt_are_left_out(tmp_path: Path) -> None:
    dataset = write(tmp_path, classes=("cat",)).dataset()
    assert [dataset.targets(i).labels.tolist() for i in range(3)] == [[0], [0], []]
    assert dataset.ground_truth()["categories"] == [{"id": 7, "name": "cat"}]


def test_polygons_and_codes_become_masks(tmp_path: Path) -> None:
    dataset = write(tmp_path).dataset(with_mask=True)
    masks = dataset[0].targets.masks
    assert masks is not None
    expected = torch.zeros(30, 40, dtype=torch.bool)
    expected[5:15, 5:25] = True
    assert torch.equal(masks[0], expected)
    crowd = dataset[1].targets.masks
    assert crowd is not None
    assert crowd[1].nonzero().tolist() == [[row, 2] for row in range(2, 12)]
    assert dataset[2].targets.masks is not None


def test_boxes_that_leave_the_image_are_kept_and_degenerate_ones_reported(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        data["annotations"][0]["bbox"] = [-5, -5, 20, 20]
        data["annotations"][1]["bbox"] = [3, 3, 0, 9]

    dataset = write(tmp_path, spoil).dataset()
    assert dataset.targets(0).boxes[0].tolist() == [-5, -5, 15, 15]
    (report,) = dataset.problems
    place = f"{tmp_path}/all.json: annotation 2"
    assert (
        str(report) == f"{place}: its bbox [3, 3, 0, 9] is less than a pixel wide or high. It is not learnt."
    )


def _set(kind: str, index: int, key: str, value: object) -> Spoil:
    def spoil(data: Data) -> None:
        data[kind][index][key] = value

    return spoil


def _drop(kind: str, index: int, key: str) -> Spoil:
    return lambda data: data[kind][index].pop(key)


SPOILT: dict[str, tuple[Spoil, str]] = {
    "absent image": (_set("images", 0, "file_name", "z.png"), "image 10: there is no "),
    "absent folder": (_set("images", 0, "file_name", "no/a.png"), "image 10: there is no "),
    "path out of the folder": (
        _set("images", 0, "file_name", "../../etc/passwd"),
        "leads out of the image folder",
    ),
    "absolute path": (_set("images", 0, "file_name", "/etc/passwd"), "leads out of the image folder"),
    "no file name": (_drop("images", 0, "file_name"), "image 10: its file_name is None"),
    "no image id": (_drop("images", 1, "id"), "image 1 of the list: it has no id"),
    "image id twice": (_set("images", 1, "id", 10), "image 10: the id occurs twice"),
    "image id of another kind": (_set("images", 1, "id", [1]), "image 1 of the list: it has no id"),
    "huge image id": (_set("images", 1, "id", 10**30), "image 1 of the list: it has no id"),
    "name too long": (_set("images", 0, "file_name", "a" * 300 + "/b.png"), "there is no "),
    "size of a text": (_set("images", 0, "width", "40"), "image 10: its height and width are 30 and '40'"),
    "size of half a pixel": (
        _set("images", 0, "width", 40.5),
        "40.5, and have to be whole numbers of pixels",
    ),
    "size 0": (_set("images", 0, "width", 0), "image 10: its height and width are 30 and 0"),
    "huge size": (_set("images", 0, "width", 10**9), "at most 100000 pixels are read"),
    "category without a name": (_drop("categories", 0, "name"), "has no id and name"),
    "category without an id": (_drop("categories", 1, "id"), "has no id and name"),
    "category id of another kind": (_set("categories", 1, "id", {"a": 1}), "has no id and name"),
    "unnamed category id": (
        _set("annotations", 0, "category_id", 4),
        "annotation 1: its category_id 4 has no name in categories",
    ),
    "unknown image id": (_set("annotations", 0, "image_id", 11), "annotation 1: its image_id 11 is no image"),
    "box outside": (_set("annotations", 0, "bbox", [50, 5, 20, 10]), "lies outside its image of 40x30"),
    "box with NaN": (_set("annotations", 0, "bbox", [5, float("nan"), 20, 10]), "is not four finite numbers"),
    "box with infinity": (
        _set("annotations", 0, "bbox", [5, 5, float("inf"), 10]),
        "is not four finite numbers",
    ),
    "box with a huge number": (_set("annotations", 0, "bbox", [10**400, 5, 20, 10]), "is not four finite"),
    "box of three numbers": (_set("annotations", 0, "bbox", [5, 5, 20]), "is not four finite numbers"),
    "box of texts": (_set("annotations", 0, "bbox", ["5", "5", "20", "10"]), "is not four finite numbers"),
    "no box": (_drop("annotations", 0, "bbox"), "its bbox None is not four finite numbers"),
    "annotation id twice": (_set("annotations", 2, "id", 1), "annotation 1: the id occurs twice"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_is_said_with_its_place_and_can_be_left_out(tmp_path: Path, name: str) -> None:
    spoil, says = SPOILT[name]
    config = write(tmp_path, spoil)
    if name.startswith("category without"):
        config = write(tmp_path, spoil, classes=("dog",))
    with pytest.raises(DataError) as caught:
        config.dataset()
    assert f"{tmp_path}/all.json: " in str(caught.value)
    assert says in str(caught.value)
    assert "drop_invalid" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8

    lenient = write(tmp_path, spoil, drop_invalid=True, classes=config.classes).dataset()
    assert any(says in str(problem) for problem in lenient.problems)
    for sample in lenient:
        assert sample.targets.boxes.isfinite().all()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_set("annotations", 0, "segmentation", [[1, 2, 3]]), "an x without a y"),
        (_set("annotations", 0, "segmentation", [[0, 0, 1e9, 0, 0, 1e9]]), "far outside the image"),
        (_drop("annotations", 0, "segmentation"), "it has no segmentation"),
        (_set("annotations", 0, "segmentation", {"size": [3, 3], "counts": "09"}), "its RLE has the size"),
        (_set("annotations", 0, "segmentation", {"size": [30, 40], "counts": "09"}), "its RLE covers"),
    ],
)
def test_broken_masks_are_an_error_only_where_masks_are_wanted(
    tmp_path: Path, spoil: Spoil, says: str
) -> None:
    config = write(tmp_path, spoil)
    assert len(config.dataset()) == 3
    with pytest.raises(DataError, match="annotation 1 of image 10") as caught:
        config.dataset(with_mask=True)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no such file. Correct data_root and ann_file"),
        ("", "line 1, column 1: this is not json"),
        ('{"images": [', "line 1, column 13: this is not json"),
        ("[]", "this is not a COCO annotation file: it has no list of images"),
        ('{"images": [], "annotations": [], "categories": {}}', "it has no list of categories"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ('{"images": [], "annotations": [], "categories": []}', "classes names 'dog', which is no category"),
        ("1" * 10_000, "this is not a COCO annotation file"),
        ("\x00\xff", "this is not json"),
    ],
)
def test_a_file_that_holds_no_annotations_is_named(tmp_path: Path, content: str | None, says: str) -> None:
    config = write(tmp_path)
    (tmp_path / "all.json").unlink()
    if content is not None:
        (tmp_path / "all.json").write_text(content)
    with pytest.raises(DataError) as caught:
        config.dataset()
    assert str(caught.value).startswith(f"{tmp_path}/all.json: ")
    assert says in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    config = write(tmp_path)
    (tmp_path / "all.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="cannot be read"):
        config.dataset()


def test_an_absent_image_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no: the folder cannot be listed.*Correct data_root and img_prefix"):
        write(tmp_path, img_prefix="no").dataset()


@pytest.mark.parametrize(
    ("spoil", "values", "says"),
    [
        (lambda data: data["images"].clear(), {"drop_invalid": True}, "it names no usable image"),
        (
            lambda data: data["annotations"].clear(),
            {"filter_empty_gt": True},
            "are left out by filter_empty_gt",
        ),
        (Data.copy, {"min_size": 31}, "are left out by filter_empty_gt and min_size"),
    ],
)
def test_a_dataset_without_images_is_refused(
    tmp_path: Path, spoil: Spoil, values: dict[str, object], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        write(tmp_path, spoil, **values).dataset()


def test_a_class_that_the_file_does_not_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes names 'dgo', which is no category.*dog"):
        write(tmp_path, classes=("dgo",)).dataset()


def test_an_image_of_another_size_than_annotated_is_refused_when_it_is_read(tmp_path: Path) -> None:
    dataset = write(tmp_path, _set("images", 0, "width", 41)).dataset()
    with pytest.raises(DataError, match=r"a.png: image 10 has 40x30 pixels, but its annotation says 41x30"):
        dataset[0]


def test_many_faults_are_cut_short(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        data["images"] = [{"id": i} for i in range(1000)]

    with pytest.raises(DataError, match="and 995 more") as caught:
        write(tmp_path, spoil).dataset()
    assert len(str(caught.value).splitlines()) < 10


def test_ground_truth_is_what_the_file_says(tmp_path: Path) -> None:
    dataset = write(tmp_path).dataset()
    data = json.loads((tmp_path / "all.json").read_text())
    truth = dataset.ground_truth()
    assert truth["images"] == data["images"]
    assert truth["annotations"] == data["annotations"]
    assert [category["name"] for category in truth["categories"]] == ["dog", "cat"]


def as_jpegs(data: Data, folder: Path) -> None:
    """Eight times as large, as JPEGs."""
    for image in data["images"]:
        image.update(file_name=f"{image['id']}.jpg", width=317, height=241)
        Image.new("RGB", (317, 241), (image["id"], 0, 0)).save(folder / image["file_name"])
    data["annotations"] = [
        {
            "id": 1,
            "image_id": 10,
            "category_id": 7,
            "iscrowd": 0,
            "area": 200.0 * 100,
            "bbox": [40, 40, 200, 100],
            "segmentation": [[40, 40, 240, 40, 240, 140, 40, 140]],
        }
    ]


def test_boxes_and_masks_of_a_draft_shrink_with_it(tmp_path: Path) -> None:
    config = write(tmp_path, lambda data: as_jpegs(data, tmp_path), draft_size=(160, 120))
    sample = config.dataset(with_mask=True)[0]

    assert sample.image.shape == (3, 121, 159)
    assert sample.info.size == (241, 317)
    ((x1, y1, x2, y2),) = sample.targets.boxes.tolist()
    assert (x1, y1, x2, y2) == pytest.approx((20, 20, 120, 70), abs=1)
    masks = sample.targets.masks
    assert masks is not None
    assert masks.shape == (1, 121, 159)
    assert masks.dtype == torch.bool
    assert masks[0].sum() == pytest.approx(100 * 50, rel=0.03)


def test_an_image_of_another_size_than_annotated_is_refused_in_a_draft_too(tmp_path: Path) -> None:
    def spoil(data: Data) -> None:
        as_jpegs(data, tmp_path)
        data["images"][0]["width"] = 241

    with pytest.raises(DataError, match="159x121 pixels, but its annotation says 241x241"):
        write(tmp_path, spoil, draft_size=(160, 120)).dataset()[0]


def test_after_the_resize_a_draft_is_nearly_the_image_that_was_decoded_whole(tmp_path: Path) -> None:
    whole = write(tmp_path, lambda data: as_jpegs(data, tmp_path))
    resize = Pipeline((ResizeConfig(scale=(150, 110)),))
    first, second = (
        resize(config.dataset()[0], 0) for config in (whole, evolve(whole, draft_size=(150, 110)))
    )

    assert first.image.shape == second.image.shape
    torch.testing.assert_close(first.targets.boxes, second.targets.boxes, rtol=0, atol=1e-3)
    assert (first.image.float() - second.image.float()).abs().max() < 4


@pytest.mark.filterwarnings("error")
def test_a_box_of_astronomic_size_is_as_large_as_its_image(tmp_path: Path) -> None:
    dataset = write(tmp_path, lambda data: data["annotations"][0].update(bbox=[5, 5, 1e300, 1e300])).dataset()
    sample = Pipeline(())(dataset[0], 0)
    assert sample.targets.boxes[0].tolist() == [5, 5, 40, 30]
