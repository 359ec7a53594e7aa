"""Data in YOLO's format, as Ultralytics and Roboflow write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detcfg.data.errors import DataError
from detcfg.data.files import FileDataset
from detcfg.data.yolo import YOLODatasetConfig
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.structures import Detections

NAMES = "names: [cat, dog]\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of 40x20 in images/train, the first with a dog, the second without a file of labels."""
    for name in ("a", "b"):
        picture(tmp_path / "images" / "train" / f"{name}.png")
    rows(tmp_path, "a", "1 0.5 0.5 0.25 0.5")
    (tmp_path / "data.yaml").write_text(f"train: images/train\n{NAMES}")
    return tmp_path


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)


def rows(root: Path, name: str, *lines: str) -> None:
    path = root / "labels" / "train" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def read(root: Path, *, with_mask: bool = False, **values: Any) -> FileDataset:
    given = {"classes": ("cat", "dog")} | values
    return YOLODatasetConfig(data_root=str(root), **given).dataset(with_mask=with_mask)


def test_a_row_is_centre_and_size_in_fractions_of_the_image(data: Path) -> None:
    dataset = read(data)

    targets = dataset[0].targets
    torch.testing.assert_close(targets.boxes, torch.tensor([[15.0, 5.0, 25.0, 15.0]]))
    assert targets.labels.tolist() == [1]
    assert [dataset.info(i).image_id for i in range(2)] == ["images/train/a.png", "images/train/b.png"]


def test_a_missing_and_an_empty_file_of_labels_are_background(data: Path) -> None:
    rows(data, "a", "")

    dataset = read(data)

    assert [len(sample.targets) for sample in dataset] == [0, 0]
    rows(data, "b", "")
    assert read(data).problems == ()


def test_where_labels_were_looked_for_is_said_if_there_are_none(data: Path) -> None:
    (data / "labels" / "train" / "a.txt").unlink()

    (problem,) = read(data).problems

    assert "none of its 2 images has a file of labels" in str(problem)
    assert str(data / "labels" / "train" / "a.txt") in str(problem)


def test_a_polygon_has_the_least_box_around_it_and_a_mask(data: Path) -> None:
    rows(data, "a", "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75", "1 0.5 0.5 0.25 0.5")

    targets = read(data, with_mask=True)[0].targets

    torch.testing.assert_close(targets.boxes[0], torch.tensor([10.0, 5.0, 30.0, 15.0]))
    assert targets.masks is not None
    assert int(targets.masks[0].sum()) == 20 * 10
    assert targets.masks[0, 5:15, 10:30].all()
    assert targets.ignored is not None
    assert targets.ignored.tolist() == [False, True]  # a box has no mask to learn


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, dog]",
        "names:\n- cat\n- 'dog'",
        "names:\n  0: cat\n  1: dog",
        'names: {"0": cat, 1: dog}  # comment',
    ],
)
def test_names_are_a_list_or_a_map(data: Path, names: str) -> None:
    (data / "data.yaml").write_text(f"train: images/train\nnc: 2\n{names}\n")

    assert read(data, classes=("dog",))[0].targets.labels.tolist() == [0]


@pytest.mark.parametrize(
    "split",
    [
        "train: images/train",
        "train: ./images/train/",
        "train: [images/train]",
        "train:\n  - images/train\n",
        "train: ../images/train",  # Roboflow, which means a folder beside the file
        "path: .\ntrain: images/train",
        "path: images\ntrain: train",
        "path: ../datasets/nowhere\ntrain: images/train",
        "train: images",
        "train: train.txt",
        "train: [train.txt]",
    ],
)
def test_a_split_is_folders_and_text_files_seen_from_path_or_the_yaml(data: Path, split: str) -> None:
    (data / "train.txt").write_text("./images/train/a.png\nimages/train/b.png\n")
    (data / "data.yaml").write_text(f"{split}\n{NAMES}")

    dataset = read(data)

    assert [Path(dataset.info(i).path).name for i in range(len(dataset))] == ["a.png", "b.png"]
    assert [len(sample.targets) for sample in dataset] == [1, 0]


def test_roboflow_s_val_is_the_folder_valid(tmp_path: Path) -> None:
    picture(tmp_path / "valid" / "images" / "a.jpg")
    (tmp_path / "valid" / "labels").mkdir()
    (tmp_path / "valid" / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 2\n{NAMES}")

    assert read(tmp_path, split="val")[0].targets.boxes.tolist() == [[0, 0, 40, 20]]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("0 0.5 0.5 0.5", "has 4 numbers, and a box has 5"),
        ("0 0.5 0.5 0.5 0.5 0.9", "has 6 numbers"),
        ("0 0.5 0.5 x 0.5", "something that is no number"),
        ("0 nan 0.5 0.5 0.5", "something that is no number"),
        ("2 0.5 0.5 0.5 0.5", "its class is 2, and names goes from 0 to 1"),
        ("0.5 0.5 0.5 0.5 0.5", "its class is 0.5"),
        ("-1 0.5 0.5 0.5 0.5", "its class is -1"),
        ("0 20 10 10 10", "is not in fractions of the image"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line_and_the_good_ones_stay(data: Path, row: str, says: str) -> None:
    rows(data, "a", "1 0.5 0.5 0.25 0.5", row)

    with pytest.raises(DataError, match=says) as refused:
        read(data)
    assert f"{data / 'labels' / 'train' / 'a.txt'}: line 2" in str(refused.value)
    assert len(read(data, drop_invalid=True)[0].targets) == 1


def test_what_is_flat_or_there_twice_is_left_out_with_a_report(data: Path) -> None:
    rows(data, "a", *["1 0.5 0.5 0.25 0.5"] * 2, "0 0.5 0.5 0 0.5")

    dataset = read(data)

    assert len(dataset[0].targets) == 1
    assert {(group.reason, group.count) for group in dataset.left_out} == {
        ("there twice", 1),
        ("without width or height", 1),
    }
    assert [problem.file.rpartition(": ")[2] for problem in dataset.problems] == ["line 2", "line 3"]


def test_names_that_no_class_has_are_counted(data: Path) -> None:
    (group,) = read(data, classes=("cat",)).left_out

    assert (group.reason, group.count, group.example) == ("of other classes", 1, "'dog' (1)")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("names: [cat, dog]", "its train is None, which names no folder of images"),
        ("train: images/nowhere\nnames: [cat, dog]", "there is no .*nowhere"),
        ("train: images/train\nnames: [cat, dig]", "'dog', which is no name of the file. Did you mean 'dig'"),
        ("train: images/train\nnames: [cat, no]", "names has False for the class 1"),
        ("train: images/train", "it has no names"),
        ("train: [", "this is not yaml"),
        ("- 1", "it has no names"),
    ],
)
def test_a_yaml_that_does_not_say_what_is_needed_is_refused(data: Path, text: str, says: str) -> None:
    (data / "data.yaml").write_text(text)

    with pytest.raises(DataError, match=says):
        read(data)


def test_a_list_does_not_lead_out_of_the_dataset(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    picture(outside)
    (data / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    for line in (str(outside), f"images/../../{outside.parent.name}/secret.png"):
        (data / "train.txt").write_text(f"images/train/a.png\n{line}\n")
        with pytest.raises(DataError, match=r"train.txt: line 2: .*lies outside of the dataset's folder"):
            read(data)
    (data / "train.txt").write_text(str(data / "images" / "train" / "a.png"))
    assert len(read(data)) == 1


def test_it_is_evaluated(data: Path) -> None:
    dataset = read(data)
    evaluator = CocoEvaluator(dataset, ("bbox",))
    for i in range(2):
        targets = dataset.targets(i)
        found = Detections(boxes=targets.boxes, scores=torch.ones(len(targets)), labels=targets.labels)
        evaluator.add(dataset.info(i).image_id, found)

    assert evaluator.compute()["bbox_AP"] == pytest.approx(1)
