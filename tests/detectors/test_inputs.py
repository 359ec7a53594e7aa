"""Images and targets from Python: what a detector cannot mean is refused with a remedy before it computes."""

from __future__ import annotations

import re

import pytest
import torch
from attrs import evolve
from torch import Tensor, tensor

from detcfg.detectors.base import Detector
from detcfg.detectors.inputs import checked_targets
from detcfg.errors import DetcfgError
from detcfg.structures import Targets
from tests.support.tiny import experiment

IMAGE = torch.zeros(3, 40, 60, dtype=torch.uint8)
GOOD = Targets(boxes=tensor([[5.0, 5, 30, 20], [10, 8, 60, 40]]), labels=tensor([0, 1]))


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    return experiment().resolved().model.build()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("image", "says"),
    [
        (
            torch.rand(3, 40, 60),
            "image 0 is torch.float32 of shape (3, 40, 60), and a detector takes uint8 RGB",
        ),
        (torch.rand(3, 40, 60), "make (image * 255).round().to(torch.uint8)"),
        (torch.rand(3, 40, 60).double() * 255, "is torch.float64"),
        (torch.zeros(3, 40, 60, dtype=torch.int64), "Convert it by image.to(torch.uint8)"),
        (
            torch.zeros(40, 60, 3, dtype=torch.uint8),
            "Carry the channels to the front: image.permute(2, 0, 1)",
        ),
        (torch.zeros(1, 40, 60, dtype=torch.uint8), "Give each image by itself, with three channels"),
        (torch.zeros(1, 3, 40, 60, dtype=torch.uint8), "Give each image by itself, with three channels"),
    ],
)
def test_what_is_no_uint8_rgb_image_is_refused(
    model: Detector, image: Tensor, says: str, *, training: bool
) -> None:
    model.train(training)
    with pytest.raises(DetcfgError, match=re.escape(says)):
        model([image], [GOOD] if training else None)


def test_the_remedy_for_floats_is_one(model: Detector) -> None:
    model.eval()
    image = torch.rand(3, 40, 60)
    with torch.no_grad():
        model([(image * 255).round().to(torch.uint8)])


BAD: dict[str, tuple[Targets, str]] = {
    "no width": (
        evolve(GOOD, boxes=tensor([[5.0, 5, 30, 20], [9, 9, 9, 20]])),
        "box 1, [9.0, 9.0, 9.0, 20.0], has no width",
    ),
    "width and height for corners": (
        evolve(GOOD, boxes=tensor([[30.0, 25, 20, 10], [1, 1, 5, 5]])),
        "box 0, [30.0, 25.0, 20.0, 10.0], has no width or no height; it has to be (x1, y1, x2, y2)",
    ),
    "outside": (
        evolve(GOOD, boxes=tensor([[-50.0, -40, -20, -20], [1, 1, 5, 5]])),
        "box 0, [-50.0, -40.0, -20.0, -20.0], lies outside the image of 60x40",
    ),
    "beyond": (
        evolve(GOOD, boxes=tensor([[1.0, 1, 5, 5], [60, 1, 70, 5]])),
        "lies outside the image of 60x40",
    ),
    "not finite": (evolve(GOOD, boxes=tensor([[1.0, 1, torch.nan, 5], [1, 1, 5, 5]])), "is not finite"),
    "label of no class": (
        evolve(GOOD, labels=tensor([0, 4])),
        "label 1 is 4, and the detector has 4 classes, counted from 0",
    ),
    "label below 0": (evolve(GOOD, labels=tensor([-1, 0])), "label 0 is -1"),
    "a label too many": (
        evolve(GOOD, labels=tensor([0, 1, 1])),
        "labels has the shape (3,), and should have (2,)",
    ),
    "masks of another size": (
        evolve(GOOD, masks=torch.zeros(2, 60, 40, dtype=torch.bool)),
        "masks has the shape (2, 60, 40), and should have (2, 40, 60)",
    ),
    "boxes that are flat": (
        evolve(GOOD, boxes=torch.ones(8)),
        "boxes has the shape (8,), and should have (8, 4)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_targets_that_give_no_sound_loss_are_refused(model: Detector, name: str) -> None:
    targets, says = BAD[name]
    model.train()
    with pytest.raises(DetcfgError, match=re.escape(says)) as caught:
        model([IMAGE, IMAGE], [GOOD, targets])
    assert str(caught.value).startswith("the targets of image 1: ")


def test_targets_are_given_for_each_image(model: Detector) -> None:
    with pytest.raises(DetcfgError, match="There are 2 images and the targets of 1"):
        model.loss([IMAGE, IMAGE], [GOOD])


def test_boxes_are_clipped_to_their_image_as_the_loader_does() -> None:
    beyond = evolve(
        GOOD, boxes=tensor([[-50.0, -40, 20, 20], [10, 8, 90, 40]]), ignored=tensor([False, True])
    )
    (clipped,) = checked_targets([IMAGE], [beyond], 4)
    assert clipped.boxes.tolist() == [[0, 0, 20, 20], [10, 8, 60, 40]]
    assert clipped.ignored is beyond.ignored
    assert checked_targets([IMAGE], [GOOD], 4) == [GOOD]


def test_a_box_whose_centre_lies_outside_is_learned_where_it_is_seen(model: Detector) -> None:
    model.train()
    losses: list[dict[str, Tensor]] = []
    for box in ([-50.0, -40, 20, 20], [0, 0, 20, 20]):
        torch.manual_seed(0)
        losses.append(model.loss([IMAGE], [Targets(boxes=tensor([box]), labels=tensor([0]))]))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])


def test_ignored_objects_may_have_any_label_and_images_no_object(model: Detector) -> None:
    model.train()
    ignored = evolve(GOOD, labels=tensor([0, -1]), ignored=tensor([False, True]))
    nothing = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    assert all(value.isfinite() for value in model.loss([IMAGE, IMAGE], [ignored, nothing]).values())
