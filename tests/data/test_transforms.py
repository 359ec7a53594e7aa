"""Transforms: boxes, masks and labels stay with what they are of, and a seed decides what is drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from detcfg.config import ConfigError
from detcfg.data.base import ImageInfo, Sample
from detcfg.data.transforms import (
    ColorJitterConfig,
    ComposeConfig,
    ExpandConfig,
    FilterAnnotationsConfig,
    MinIoURandomCropConfig,
    PhotoMetricDistortionConfig,
    Pipeline,
    RandomChoiceConfig,
    RandomChoiceResizeConfig,
    RandomCropConfig,
    RandomFlipConfig,
    RandomResizeConfig,
    ResizeConfig,
    TransformConfig,
)
from detcfg.data.transforms.geometric import RandomResize
from detcfg.structures import Targets, rescaled_size

PLACES: tuple[TransformConfig, ...] = (
    RandomFlipConfig(),
    RandomFlipConfig(direction="vertical"),
    ResizeConfig(scale=(90, 60)),
    ResizeConfig(scale=(64, 48), keep_ratio=False),
    RandomResizeConfig(scale=((80, 40), (100, 60))),
    RandomResizeConfig(scale=((80, 60),), ratio_range=(0.5, 2.0)),
    RandomChoiceResizeConfig(scales=((80, 40), (60, 60))),
    RandomCropConfig(crop_size=(30, 40)),
    RandomCropConfig(crop_size=(0.6, 0.7), crop_type="relative", allow_negative_crop=True),
    RandomCropConfig(crop_size=(0.4, 0.7), crop_type="relative_range", recompute_bbox=True),
    RandomCropConfig(crop_size=(20, 50), crop_type="absolute_range", allow_negative_crop=True),
    RandomChoiceConfig(
        transforms=(
            RandomFlipConfig(prob=1),
            ComposeConfig(transforms=(ResizeConfig(scale=(90, 60)), RandomCropConfig(crop_size=(30, 40)))),
        )
    ),
    FilterAnnotationsConfig(min_gt_bbox_wh=(10, 12), by_mask=True, min_gt_mask_area=150),
    MinIoURandomCropConfig(),
    ExpandConfig(ratio_range=(1, 2), prob=1),
)
COLOURS: tuple[TransformConfig, ...] = (PhotoMetricDistortionConfig(), ColorJitterConfig(hue=0.1))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """An image with a filled rectangle for each object: its label is its brightness over 40, less 1."""
    height, width = draw(st.integers(24, 70)), draw(st.integers(24, 70))
    count = draw(st.integers(0, 5))
    boxes = torch.zeros(count, 4)
    masks = torch.zeros((count, height, width), dtype=torch.bool)
    image = torch.zeros((3, height, width), dtype=torch.uint8)
    for i in range(count):
        x, y = draw(st.integers(0, width - 9)), draw(st.integers(0, height - 9))
        w, h = draw(st.integers(8, width - x)), draw(st.integers(8, height - y))
        boxes[i] = torch.tensor([x, y, x + w, y + h])
        masks[i, y : y + h, x : x + w] = True
        image[:, y : y + h, x : x + w] = 40 * (i + 1)
    targets = Targets(boxes, torch.arange(count), masks, torch.arange(count) % 2 == 1)
    return Sample(tv_tensors.Image(image), targets, ImageInfo(image_id=0, path="", size=(height, width)))


def extents(masks: Tensor) -> Tensor:
    """(N, 4): the boxes around masks that are not empty."""
    rows, columns = masks.any(dim=2).int(), masks.any(dim=1).int()
    x1, y1 = columns.argmax(dim=1), rows.argmax(dim=1)
    x2 = masks.shape[2] - columns.flip(1).argmax(dim=1)
    y2 = masks.shape[1] - rows.flip(1).argmax(dim=1)
    return torch.stack((x1, y1, x2, y2), dim=1).float()


@given(samples(), st.lists(st.sampled_from(PLACES + COLOURS), max_size=5), st.integers(0, 2**60))
def test_what_is_left_lies_in_the_image_and_rows_stay_together(
    sample: Sample, transforms: list[TransformConfig], seed: int
) -> None:
    result = Pipeline(transforms)(sample, seed)
    targets = result.targets
    height, width = result.image.shape[-2:]
    assert result.image.dtype == torch.uint8
    assert targets.masks is not None
    assert targets.ignored is not None
    assert targets.masks.shape == (len(targets), height, width)
    assert torch.equal(targets.ignored, targets.labels % 2 == 1)  # rows stay together
    boxes = targets.boxes
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 2:] <= torch.tensor([width, height])).all()


@given(samples(), st.sampled_from(PLACES), st.integers(0, 2**60))
def test_one_step_keeps_masks_within_a_pixel_of_their_boxes(
    sample: Sample, transform: TransformConfig, seed: int
) -> None:
    result = Pipeline([transform])(sample, seed)
    masks = result.targets.masks
    assert masks is not None
    there = masks.flatten(1).any(dim=1)
    if there.any():
        distance = (extents(masks[there]) - result.targets.boxes[there]).abs().max()
        factor = max(result.image.shape[-2] / sample.image.shape[-2], 1.0)
        assert distance <= 1 + factor


@given(samples(), st.sampled_from(["horizontal", "vertical"]))
def test_flipping_twice_changes_nothing(sample: Sample, direction: str) -> None:
    flip = RandomFlipConfig(prob=1, direction=direction)  # type: ignore[arg-type]
    once, twice = Pipeline([flip])(sample, 0), Pipeline([flip, flip])(sample, 0)
    assert torch.equal(twice.image, sample.image)
    assert torch.equal(twice.targets.boxes, sample.targets.boxes)
    assert twice.targets.masks is not None
    assert sample.targets.masks is not None
    assert torch.equal(twice.targets.masks, sample.targets.masks)
    assert torch.equal(once.image, sample.image.flip(2 if direction == "horizontal" else 1))


@given(samples(), st.lists(st.sampled_from(PLACES + COLOURS), max_size=4), st.integers(0, 2**60))
def test_a_seed_decides_everything(sample: Sample, transforms: list[TransformConfig], seed: int) -> None:
    pipeline = Pipeline(transforms)
    first = pipeline(sample, seed)
    torch.rand(7)
    state = torch.get_rng_state()
    again = pipeline(sample, seed)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.targets.boxes, again.targets.boxes)
    assert torch.equal(torch.get_rng_state(), state)


@given(samples(), st.sampled_from(COLOURS), st.integers(0, 2**60))
def test_colours_change_no_place(sample: Sample, transform: TransformConfig, seed: int) -> None:
    result = Pipeline([transform])(sample, seed)
    assert torch.equal(result.targets.boxes, sample.targets.boxes)
    assert result.image.shape == sample.image.shape


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000), st.integers(1, 2000))
def test_a_resized_image_is_as_large_as_both_edges_allow(height: int, width: int, a: int, b: int) -> None:
    new = rescaled_size((height, width), (a, b))
    assert max(new) <= max(a, b)
    assert min(new) <= max(min(a, b), 1)
    assert max(new) == max(a, b) or min(new) == min(a, b)


@given(sample=samples(), width=st.integers(16, 120), height=st.integers(16, 120), keep_ratio=st.booleans())
def test_a_resized_sample_has_the_size_that_was_asked_for(
    *, sample: Sample, width: int, height: int, keep_ratio: bool
) -> None:
    result = Pipeline([ResizeConfig(scale=(width, height), keep_ratio=keep_ratio)])(sample, 0)
    old = (sample.image.shape[1], sample.image.shape[2])
    new = (result.image.shape[1], result.image.shape[2])
    assert new == (rescaled_size(old, (width, height)) if keep_ratio else (height, width))
    factors = torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)
    kept = result.targets.labels  # too small objects are dropped; a label is an object's number
    torch.testing.assert_close(
        result.targets.boxes, sample.targets.boxes[kept] * factors, atol=1e-3, rtol=1e-4
    )


def test_resizing_moves_boxes_with_the_image() -> None:
    image = tv_tensors.Image(torch.zeros((3, 20, 40), dtype=torch.uint8))
    targets = Targets(torch.tensor([[4.0, 2, 40, 20]]), torch.zeros(1, dtype=torch.int64))
    sample = Sample(image, targets, ImageInfo(image_id=0, path="", size=(20, 40)))
    result = Pipeline([ResizeConfig(scale=(100, 60))])(sample, 0)
    assert result.image.shape == (3, 50, 100)
    assert result.targets.boxes.tolist() == [[10, 5, 100, 50]]


def test_scales_are_drawn_between_their_ends() -> None:
    torch.manual_seed(0)
    draw = RandomResize(RandomResizeConfig(scale=((1333, 640), (1333, 800)))).draw
    drawn = [draw() for _ in range(500)]
    assert {long for long, _ in drawn} == {1333}
    assert (min(short for _, short in drawn), max(short for _, short in drawn)) == (640, 800)
    jitter = RandomResize(RandomResizeConfig(scale=((1000, 500),), ratio_range=(0.1, 2.0))).draw
    factors = [jitter()[0] / 1000 for _ in range(500)]
    assert 0.1 <= min(factors) < 0.15
    assert 1.95 < max(factors) <= 2


def test_a_crop_has_its_size_unless_the_image_is_smaller() -> None:
    image = tv_tensors.Image(torch.zeros((3, 20, 60), dtype=torch.uint8))
    targets = Targets(torch.tensor([[0.0, 0, 60, 20]]), torch.zeros(1, dtype=torch.int64))
    sample = Sample(image, targets, ImageInfo(image_id=0, path="", size=(20, 60)))
    result = Pipeline([RandomCropConfig(crop_size=(30, 40))])(sample, 3)
    assert result.image.shape == (3, 20, 40)
    assert result.targets.boxes.tolist() == [[0, 0, 40, 20]]


def one_image(height: int, width: int, boxes: list[list[float]], masks: Tensor | None = None) -> Sample:
    image = tv_tensors.Image(torch.zeros((3, height, width), dtype=torch.uint8))
    targets = Targets(torch.tensor(boxes), torch.arange(len(boxes)), masks)
    return Sample(image, targets, ImageInfo(image_id=0, path="", size=(height, width)))


def test_a_crop_of_drawn_size_is_between_its_ends() -> None:
    config = RandomCropConfig(crop_size=(20, 50), crop_type="absolute_range", allow_negative_crop=True)
    sample = one_image(40, 200, [[0.0, 0, 200, 40]])
    shapes = [Pipeline([config])(sample, seed).image.shape[1:] for seed in range(300)]
    assert {height for height, _ in shapes} == set(range(20, 41))
    assert {width for _, width in shapes} == set(range(20, 51))


def test_shares_of_a_crop_are_drawn_up_to_the_whole_image() -> None:
    config = RandomCropConfig(crop_size=(0.5, 0.9), crop_type="relative_range", allow_negative_crop=True)
    sample = one_image(100, 100, [[0.0, 0, 100, 100]])
    shapes = [Pipeline([config])(sample, seed).image.shape[1:] for seed in range(600)]
    assert {height for height, _ in shapes} == set(range(50, 101))
    assert {width for _, width in shapes} == set(range(90, 101))


def test_boxes_are_those_of_what_a_crop_leaves_of_masks() -> None:
    masks = torch.zeros((1, 20, 60), dtype=torch.bool)
    masks[0, 5:9, 3:7] = True
    masks[0, 15:18, 50:55] = True  # one object, in two pieces
    config = RandomCropConfig(crop_size=(20, 30), recompute_bbox=True)
    sample = one_image(20, 60, [[3.0, 5, 55, 18]], masks)
    results = [Pipeline([config])(sample, seed).targets for seed in range(50)]
    assert {(15.0, 18.0), (5.0, 9.0)} <= {(t.boxes[0, 1].item(), t.boxes[0, 3].item()) for t in results}
    for targets in results:
        assert targets.masks is not None
        torch.testing.assert_close(targets.boxes, extents(targets.masks))


def test_choices_are_drawn_as_often_as_told() -> None:
    choices = tuple(ResizeConfig(scale=(edge, edge), keep_ratio=False) for edge in (5, 6, 7))
    config = RandomChoiceConfig(transforms=choices, prob=(0.7, 0.3, 0.0))
    sample = one_image(10, 10, [[0.0, 0, 10, 10]])
    edges = [Pipeline([config])(sample, seed).image.shape[1] for seed in range(1000)]
    assert edges.count(5) == pytest.approx(700, abs=60)
    assert edges.count(7) == 0


def test_objects_too_small_go_with_their_labels_and_masks() -> None:
    masks = torch.zeros((3, 20, 60), dtype=torch.bool)
    masks[0, :4, :4], masks[1, :10, :1], masks[2, :1, :2] = True, True, True
    boxes = [[0.0, 0, 4, 4], [0, 0, 1, 10], [0, 0, 9, 9]]
    sample = one_image(20, 60, boxes, masks)
    by_box = Pipeline([FilterAnnotationsConfig(min_gt_bbox_wh=(1, 3))])(sample, 0).targets
    assert by_box.labels.tolist() == [0, 2]
    both = FilterAnnotationsConfig(min_gt_bbox_wh=(1, 3), by_mask=True, min_gt_mask_area=3)
    left = Pipeline([both])(sample, 0).targets
    assert left.labels.tolist() == [0]
    assert left.masks is not None
    assert left.masks.shape == (1, 20, 60)


@pytest.mark.parametrize(
    "config",
    [
        RandomResizeConfig(scale=((1, 2), (3, 4)), ratio_range=(1, 2)),
        RandomResizeConfig(scale=((1, 2),)),
        RandomCropConfig(crop_size=(0, 5)),
        RandomCropConfig(crop_size=(2, 2), crop_type="relative"),
        RandomCropConfig(crop_size=(20, 5), crop_type="absolute_range"),
        RandomCropConfig(crop_size=(2, 0.5), crop_type="relative_range"),
        ExpandConfig(ratio_range=(0.5, 2)),
        RandomChoiceConfig(transforms=()),
        RandomChoiceConfig(transforms=(RandomFlipConfig(),), prob=(0.5, 0.5)),
        RandomChoiceConfig(transforms=(RandomFlipConfig(),), prob=(0.5,)),
    ],
)
def test_what_cannot_be_drawn_is_refused(config: TransformConfig) -> None:
    with pytest.raises(ConfigError, match=r"give|cannot be|crop_size must be"):
        config.resolved()
