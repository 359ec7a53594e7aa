"""One weight for each class: a wrong number of them is an error before a weight is allocated."""

from __future__ import annotations

from typing import Any

import pytest

from detcfg.config import ConfigError
from detcfg.config.override import override_all
from detcfg.experiment import load_experiment
from detcfg.losses.cross_entropy import CrossEntropyLossConfig

CLASSES = ('data.train.classes=["cat", "dog"]', 'data.val.classes=["cat", "dog"]')
CROSS_ENTROPY = "detcfg.losses.cross_entropy:CrossEntropyLossConfig"


def resolved(name: str, *changes: str) -> Any:
    return override_all(load_experiment(name), [*CLASSES, *changes]).resolved().model


ROI = "model.roi_head.bbox_head.loss_cls"
DENSE = "model.bbox_head.loss_cls"


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        (
            "faster_rcnn",
            (f"{ROI}.class_weight=[1.0, 5.0]",),
            "2 values; 2 classes and the background need 3. Give one for each, in the order of the labels, the back",
        ),
        (
            "faster_rcnn",
            (f"{ROI}.class_weight=[1.0, 5.0]", f"{ROI}.use_sigmoid=true"),
            "has 2 values; 2 classes and",
        ),
        ("faster_rcnn", (f"{ROI}.class_weight=[1.0]",), "class_weight has 1 values"),
        (
            "retinanet",
            (
                f"{DENSE}={CROSS_ENTROPY}",
                f"{DENSE}.use_sigmoid=true",
                f"{DENSE}.class_weight=[1.0, 5.0, 1.0]",
            ),
            "class_weight has 3 values; 2 classes need 2. Give one for each, in the order of the labels.",
        ),
        (
            "retinanet",
            (f"{DENSE}={CROSS_ENTROPY}", f"{DENSE}.class_weight=[1.0, 5.0]"),
            "class_weight has 2 values; 2 classes and the background need 3",
        ),
        (
            "fcos",
            (f"{DENSE}={CROSS_ENTROPY}", f"{DENSE}.class_weight=[1.0, 5.0]"),
            "2 classes and the background need 3",
        ),
        (
            "faster_rcnn",
            ("model.rpn_head.loss_cls.class_weight=[1.0, 2.0]",),
            "class_weight has 2 values; 1 classes need 1",
        ),
    ],
)
def test_weights_of_other_classes_are_refused(name: str, changes: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(name, *changes)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("faster_rcnn", (f"{ROI}.class_weight=[1.0, 5.0, 1.0]",)),
        (
            "retinanet",
            (f"{DENSE}={CROSS_ENTROPY}", f"{DENSE}.use_sigmoid=true", f"{DENSE}.class_weight=[1.0, 5.0]"),
        ),
        (
            "retinanet",
            (f"{DENSE}={CROSS_ENTROPY}", f"{DENSE}.use_sigmoid=true", f"{DENSE}.class_weight=[5.0]"),
        ),
    ],
)
def test_weights_of_the_classes_are_taken(name: str, changes: tuple[str, ...]) -> None:
    head = resolved(name, *changes)
    head = head.roi_head.bbox_head if name == "faster_rcnn" else head.bbox_head
    assert head.loss_cls.class_weight is not None


def test_the_pixels_of_masks_have_one_weight() -> None:
    CrossEntropyLossConfig(use_mask=True, class_weight=(2.0,)).resolved()
    with pytest.raises(ConfigError, match="class_weight has 2 values, and with use_mask"):
        CrossEntropyLossConfig(use_mask=True, class_weight=(1.0, 2.0)).resolved()
