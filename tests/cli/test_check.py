"""`detcfg check`: would this experiment train?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.commands import Command

DEMO = (
    "data.train=detcfg.data.demo:DemoDatasetConfig",
    "data.train.num_images=6",
    "data.val=detcfg.data.demo:DemoDatasetConfig",
    "data.val.split=val",
    "data.val.num_images=3",
)
SMALL = ("--height", "64", "--width", "96")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two images of one class, the second of which is absent."""
    from PIL import Image

    Image.new("RGB", (40, 30)).save(tmp_path / "0.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(2)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 7, "bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0}
        for i in range(2)
    ]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "cat"}]}
    (tmp_path / "all.json").write_text(json.dumps(data))
    return tmp_path


def overrides(coco: Path, *more: str) -> tuple[str, ...]:
    sets = [
        (
            f"{name}.data_root='{coco}'",
            f"{name}.ann_file=all.json",
            f"{name}.img_prefix=.",
            f'{name}.classes=["cat"]',
            f"{name}.min_size=0",
        )
        for name in ("data.train", "data.val")
    ]
    return (*sets[0], *sets[1], *more)


def test_a_good_experiment_is_counted_and_its_data_listed(command: Command) -> None:
    outcome = command("check", "double_head", *DEMO, *SMALL)

    assert 0 == outcome.code
    total = next(line for line in outcome.out.splitlines() if line.startswith("total"))
    assert total.endswith("for one image of 96x64")
    bbox_head = next(line for line in outcome.out.splitlines() if line.startswith("  bbox_head"))
    assert "x5 " in bbox_head  # four shapes and background
    assert "data.train: 6 images" in outcome.out
    assert "data.val: 3 images" in outcome.out


def test_an_image_that_is_not_there_fails_the_check(command: Command, coco: Path) -> None:
    outcome = command("check", "double_head", *overrides(coco), *SMALL)

    assert 1 == outcome.code
    assert f"{coco}/all.json: image 1: there is no {coco}/1.png" in outcome.err
    assert "drop_invalid" in outcome.err
    assert "Traceback" not in outcome.err


def test_what_was_left_out_is_reported(command: Command, coco: Path) -> None:
    lenient = ("data.train.drop_invalid=true", "data.val.drop_invalid=true")
    outcome = command("check", "double_head", *overrides(coco, *lenient), *SMALL)

    assert 0 == outcome.code
    assert "data.train: 1 images" in outcome.out
    assert "there is no" in outcome.out


def test_truncated_images_are_found_if_asked(command: Command, coco: Path) -> None:
    (coco / "1.png").write_bytes((coco / "0.png").read_bytes()[:60])
    assert 0 == command("check", "double_head", *overrides(coco), *SMALL).code
    outcome = command("check", "double_head", "--images", *overrides(coco), *SMALL)

    assert 1 == outcome.code
    assert "1.png" in outcome.out


def test_a_class_that_the_file_does_not_name_is_found(command: Command, coco: Path) -> None:
    wrong = ('data.train.classes=["cat", "dgo"]', 'data.val.classes=["cat", "dgo"]')
    outcome = command("check", "double_head", *overrides(coco, *wrong), *SMALL)

    assert 1 == outcome.code
    assert "'dgo'" in outcome.err


def test_data_can_be_left_unread(command: Command) -> None:
    assert 0 == command("check", "double_head", "--no-data", *SMALL).code


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        (10**7, r"its weights take [\d,]{20,} bytes, and this machine has .*neck.fpn_convs.0.conv.weight"),
        (10**10, "larger than any memory"),
    ],
)
def test_a_layer_larger_than_memory_is_refused_with_its_bytes(
    command: Command, channels: int, says: str
) -> None:
    outcome = command("check", "double_head_demo", "--no-data", f"model.neck.out_channels={channels}")
    assert outcome.code == 1
    assert re.search(says, outcome.err)


DECLARES_OTHER_STRIDES = """\
from attrs import frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.experiments import double_head_demo


@frozen(kw_only=True)
class WrongConfig(ResNetConfig):
    @property
    def feature_strides(self) -> tuple[int, ...]:
        return (8, 16, 32)


@frozen(kw_only=True)
class Model(double_head_demo.Model):
    backbone: BackboneConfig = WrongConfig(depth=18, out_indices=(0, 1, 2))


@frozen(kw_only=True)
class Experiment(double_head_demo.Experiment):
    model: Model = Model()
"""


def test_maps_that_are_not_as_declared_fail_the_check(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "declares_other_strides.py"
    path.write_text(DECLARES_OTHER_STRIDES)
    outcome = command("check", str(path), "--no-data", "--height", "128", "--width", "128")

    assert 1 == outcome.code
    assert f"{path}:8: backbone is WrongConfig: feature_strides is (8, 16, 32)" in outcome.err
    assert "Traceback" not in outcome.err
    assert "fit each other" not in outcome.out
