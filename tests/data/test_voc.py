"""Pascal VOC's XML: what is learnt, what is ignored, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from PIL import Image

from detcfg.data.errors import DataError
from detcfg.data.voc import VOCDatasetConfig
from tests.support.voc_files import thing, xml

FILES = {
    "a": xml(thing("dog", (6, 6, 26, 16)), thing("cat", (31, 21, 40, 30), difficult=1)),
    "b": xml(thing("cow", (1, 1, 10, 10))),
}


BOMB = (
    '<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">'
    + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    + "]><annotation>&e9;</annotation>"
)
"""A few hundred characters that stand for ten thousand million."""


def write(folder: Path, files: dict[str, str] = FILES, **values: Any) -> VOCDatasetConfig:
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in files))
    config = VOCDatasetConfig(data_root=str(folder), ann_file="list.txt", classes=("cat", "dog"))
    return evolve(config, **values)


def test_fractions_are_cut_off_unless_they_are_asked_for(tmp_path: Path) -> None:
    files = {"a": xml(thing("cat", ("1.5", "2.25", "3.75", "4.5")))}

    assert write(tmp_path, files).dataset().targets(0).boxes.tolist() == [[0, 1, 2, 3]]
    kept = write(tmp_path, files, integer=False)
    assert kept.dataset().targets(0).boxes.tolist() == [[0.5, 1.25, 2.75, 3.5]]
    from_zero = evolve(kept, minus_one=False).dataset()
    assert from_zero.targets(0).boxes.tolist() == [[1.5, 2.25, 3.75, 4.5]]
    (annotation,) = from_zero.ground_truth()["annotations"]
    assert (annotation["bbox"], annotation["area"]) == ([1.5, 2.25, 2.25, 2.25], 2.25**2)


def test_boxes_count_from_pixel_one_unless_told_otherwise(tmp_path: Path) -> None:
    assert write(tmp_path).dataset().targets(0).boxes.tolist() == [[5, 5, 25, 15], [30, 20, 39, 29]]
    from_zero = write(tmp_path, minus_one=False).dataset()
    assert from_zero.targets(0).boxes.tolist() == [[6, 6, 26, 16], [31, 21, 40, 30]]


def test_difficult_objects_are_ignored_and_other_classes_left_out(tmp_path: Path) -> None:
    dataset = write(tmp_path).dataset()
    first, second = dataset.targets(0), dataset.targets(1)
    assert first.labels.tolist() == [1, 0]
    assert first.ignored is not None
    assert first.ignored.tolist() == [False, True]
    assert len(second) == 0
    assert [a["difficult"] for a in dataset.ground_truth()["annotations"]] == [0, 1]


def test_a_box_without_width_is_left_out_with_a_report(tmp_path: Path) -> None:
    dataset = write(tmp_path, {"a": xml(thing("dog", (9, 9, 9, 20)), thing("dog", (9, 9, 20, 20)))}).dataset()
    assert len(dataset.targets(0)) == 1
    (report,) = dataset.problems
    assert "object 1 of image a: its dog has the box (9, 9, 9, 20), which has no width" in str(report)


def test_the_image_says_its_size_where_the_xml_does_not(tmp_path: Path) -> None:
    dataset = write(tmp_path, {"a": xml(thing("dog", (9, 9, 20, 20)), size="")}).dataset()
    assert dataset.info(0).size == (30, 40)
    assert dataset[0].image.shape == (3, 30, 40)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": "<annotation>"}, "is no XML"),
        ({"a": ""}, "is no XML"),
        ({"a": f'<?xml version="1.0" encoding="nothing"?>{FILES["a"]}'}, "is no XML: unknown encoding"),
        ({"a": xml(thing("", (1, 1, 5, 5)))}, "object 1 of image a: it has no name"),
        ({"a": xml(thing("dog", (100, 100, 120, 120)))}, "lies outside its image of 40x30"),
        ({"a": xml(thing("dog", ("nan", 1, 5, 5)))}, "is not four finite numbers"),
        ({"a": xml(thing("dog", (1, 1, "1e999", 5)))}, "is not four finite numbers"),
        ({"a": xml(thing("dog", (1, 1, "x", 5)))}, "is not four finite numbers"),
        ({"a": xml(thing("dog", (1, 1, "1e30", 5)))}, "is not four finite numbers"),
        ({"a": xml("<object><name>dog</name></object>")}, "is not four finite numbers"),
        ({"a": xml(size="<size><width>1e300</width><height>9</height></size>")}, "at most 100000 pixels"),
        ({"a": BOMB}, "is no XML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, files: dict[str, str], says: str) -> None:
    with pytest.raises(DataError) as caught:
        write(tmp_path, files).dataset()
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "drop_invalid" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/a"])
def test_a_listed_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    config = write(tmp_path)
    (tmp_path / "secret.xml").write_text(FILES["a"])
    (tmp_path / "list.txt").write_text(f"a\n{name}\n")
    with pytest.raises(DataError, match=rf"line 2, image {name}: there is no "):
        config.dataset()


def test_an_absent_image_is_named(tmp_path: Path) -> None:
    config = write(tmp_path)
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"list.txt: line 2, image b: there is no .*JPEGImages/b.jpg"):
        config.dataset()


@pytest.mark.parametrize("gone", ["list.txt", "Annotations", "JPEGImages"])
def test_what_is_absent_as_a_whole_is_named(tmp_path: Path, gone: str) -> None:
    config = write(tmp_path)
    (tmp_path / gone).rename(tmp_path / "gone")
    with pytest.raises(DataError, match=rf"{gone}: .*Correct data_root"):
        config.dataset()


def test_names_listed_twice_and_lists_of_one_class(tmp_path: Path) -> None:
    config = write(tmp_path)
    (tmp_path / "list.txt").write_text("a  1\nb -1\n\n")
    assert len(config.dataset()) == 2
    (tmp_path / "list.txt").write_text("a\na\n")
    with pytest.raises(DataError, match="line 2, image a: the image is listed twice"):
        config.dataset()


@pytest.mark.parametrize("word", ["", "0", "0.0", "False", "false", "no", " 0 "])
def test_a_flag_may_be_a_word(tmp_path: Path, word: str) -> None:
    text = thing("dog", (1, 1, 9, 9)).replace("<difficult>0<", f"<difficult>{word}<")
    dataset = write(tmp_path, {"a": xml(text)}).dataset()
    assert dataset.targets(0).ignored is None
    assert not dataset.problems


@pytest.mark.parametrize("word", ["1", "2", "1.0", "True", "yes"])
def test_a_flag_of_a_difficult_object_may_be_a_word(tmp_path: Path, word: str) -> None:
    text = thing("dog", (1, 1, 9, 9)).replace("<difficult>0<", f"<difficult>{word}<")
    dataset = write(tmp_path, {"a": xml(text)}).dataset()
    assert len(dataset.targets(0).ignored_boxes) == 1
    assert not dataset.problems


@pytest.mark.parametrize("word", ["Unspecified", "maybe", "nan"])
def test_what_is_no_flag_is_reported_and_taken_for_none(tmp_path: Path, word: str) -> None:
    text = thing("dog", (1, 1, 9, 9)).replace("<difficult>0<", f"<difficult>{word}<")
    dataset = write(tmp_path, {"a": xml(thing("cow", (1, 1, 9, 9)), text)}).dataset()
    assert dataset.targets(0).ignored is None
    (note,) = dataset.problems
    assert note.severity == "note"
    assert (
        f"a.xml: object 2 of image a: its difficult is '{word}', which is no flag. It is taken for 0"
        in str(note)
    )


def test_images_in_sub_folders_are_found_as_datumaro_writes_them(tmp_path: Path) -> None:
    config = write(tmp_path)
    for folder, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
        (tmp_path / folder / "s1" / "deep").mkdir(parents=True)
        (tmp_path / folder / f"a.{suffix}").rename(tmp_path / folder / "s1" / f"a.{suffix}")
        (tmp_path / folder / f"b.{suffix}").rename(tmp_path / folder / "s1" / "deep" / f"my b.{suffix}")
    (tmp_path / "list.txt").write_text('s1/a 1\n"s1/deep/my b" -1\n')
    dataset = config.dataset()
    assert [dataset.info(i).image_id for i in range(2)] == ["s1/a", "s1/deep/my b"]
    assert dataset[0].targets.boxes.tolist() == [[5, 5, 25, 15], [30, 20, 39, 29]]
    assert [image["id"] for image in dataset.ground_truth()["images"]] == ["s1/a", "s1/deep/my b"]


@pytest.mark.parametrize("name", ["s1/../../secret", "s1\\..\\..\\secret"])
def test_a_sub_folder_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    config = write(tmp_path)
    (tmp_path / "Annotations" / "s1").mkdir()
    (tmp_path / "secret.xml").write_text(FILES["a"])
    (tmp_path / "list.txt").write_text(f"a\n{name}\n")
    with pytest.raises(DataError, match=r"line 2, image s1.*: there is no "):
        config.dataset()


def test_names_without_xml_are_background_where_that_is_asked_for(tmp_path: Path) -> None:
    config = write(tmp_path)
    (tmp_path / "Annotations" / "b.xml").unlink()
    with pytest.raises(
        DataError, match=r"line 2, image b: there is no .*Annotations/b.xml.*allow_missing_xml"
    ):
        config.dataset()
    dataset = evolve(config, allow_missing_xml=True).dataset()
    assert [len(sample.targets) for sample in dataset] == [2, 0]
    assert dataset.info(1).size == (30, 40)

    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"line 2, image b: there is no .*JPEGImages/b.jpg"):
        evolve(config, allow_missing_xml=True).dataset()


def test_masks_are_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"VOC's XML holds no masks. Set with_mask to false"):
        write(tmp_path).dataset(with_mask=True)
