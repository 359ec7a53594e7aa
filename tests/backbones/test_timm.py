"""timm's models give the maps that their configs declare, or are refused with their own figures."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from attrs import evolve

from detcfg import load_experiment
from detcfg.backbones.timm import TimmBackboneConfig
from detcfg.config import ConfigError
from detcfg.experiments import faster_rcnn
from detcfg.necks.base import NeckConfig
from detcfg.necks.simple_fpn import SimpleFeaturePyramidConfig
from tests.support.timm_zoo import verdict

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

VIT = TimmBackboneConfig(name="vit_tiny_patch16_224")


def test_the_maps_of_a_vit_are_those_of_its_last_blocks() -> None:
    maps = VIT.maps
    assert [(m.number, m.module) for m in maps] == [(9, "blocks.9"), (10, "blocks.10"), (11, "blocks.11")]
    with torch.device("meta"):
        body = VIT.build().body
    assert body.get_submodule("model.blocks.11")


@pytest.mark.parametrize("number", [2, 11])
def test_a_number_is_timms_own(number: int) -> None:
    import timm

    torch.manual_seed(0)
    config = evolve(VIT, out_indices=(number,))
    ours = config.build().eval()
    theirs = timm.create_model(VIT.name, pretrained=False, dynamic_img_size=True, dynamic_img_pad=True).eval()
    theirs.load_state_dict(
        {name.removeprefix("body.model."): t for name, t in ours.state_dict().items()}, strict=False
    )
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        (expected,) = theirs.forward_intermediates(image, indices=[number], intermediates_only=True)
        (found,) = ours(image)
    torch.testing.assert_close(found, expected)


def test_maps_that_begin_at_number_1_are_those_that_are_declared() -> None:
    """dla34's first place has no map of stride 2 of its own."""
    assert verdict("dla34") == "as declared"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "eva02_tiny_patch14_224",
            "no map of stride 4, 8, 16 or 32, but map 9 of stride 14 with 192 channels",
        ),
        ("convmixer_768_32", "no map of stride 4, 8, 16 or 32, but map 29 of stride 7 with 768 channels"),
        ("hiera_tiny_224", "does not take images of any size"),
        ("pit_ti_224", r"does not take images of any size, .*\(256x416 was tried: "),
    ],
)
def test_a_model_that_a_detector_cannot_read_is_refused_with_its_figures(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^name is '{name}', which .*{message}"):
        TimmBackboneConfig(name=name).resolved()


def test_maps_of_other_sizes_than_timm_says_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"timm says .*stride 12 .*, but its maps of an image of 256x416 are 128x20x20"
    ):
        TimmBackboneConfig(name="crossvit_9_240", out_indices=(2,)).resolved()


def detector(backbone: TimmBackboneConfig, neck: NeckConfig | None = None) -> faster_rcnn.Model:
    model = faster_rcnn.Model()
    return evolve(model, num_classes=3, backbone=backbone, neck=neck or model.neck)


def test_maps_of_one_stride_are_no_pyramid() -> None:
    with pytest.raises(
        ConfigError, match=r"3 maps with \(192, 192, 192\) channels all have the stride 16.*ViTDet"
    ):
        detector(VIT).resolved()
    with pytest.raises(ConfigError, match=r"made of one map\. Give the backbone's out_indices"):
        detector(VIT, SimpleFeaturePyramidConfig()).resolved()


def test_a_vit_and_the_simple_feature_pyramid_make_a_detector() -> None:
    model = detector(evolve(VIT, out_indices=(11,)), SimpleFeaturePyramidConfig(out_channels=8)).resolved()
    assert model.neck is not None
    assert model.neck.feature_strides == (4, 8, 16, 32, 64)
    features = model.build().extract_features(torch.rand(1, 3, 64, 96))
    assert [tuple(x.shape) for x in features] == [(1, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)] + [
        (1, 8, 1, 2)
    ]


def test_the_readmes_experiment_is_a_vitdet(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = re.findall(r"```python\n(# vitdet\.py\n.*?)```", text, flags=re.DOTALL)
    (tmp_path / "vitdet.py").write_text(block)
    neck = load_experiment(tmp_path / "vitdet.py").resolved().model.neck
    assert isinstance(neck, SimpleFeaturePyramidConfig)
    assert neck.in_channels == (768,)
