"""Masks of boxes and masks of images."""

from __future__ import annotations

import resource

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detcfg import masks as module
from detcfg.masks import crop_and_resize, paste


def rectangles(boxes: list[tuple[int, int, int, int]], height: int, width: int) -> Tensor:
    filled = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return filled


def test_a_box_around_its_object_is_all_ones_and_one_beside_it_all_zeros() -> None:
    masks = rectangles([(4, 4, 12, 20)], 24, 24)
    boxes = torch.tensor([[4.0, 4, 12, 20], [13, 4, 20, 20]])
    target = crop_and_resize(masks, boxes, torch.tensor([0, 0]), (7, 7))
    assert target[0].min() == 1
    assert target[1].max() == 0


def test_each_box_sees_the_mask_of_its_own_object() -> None:
    masks = rectangles([(0, 0, 8, 16), (8, 0, 16, 16)], 16, 16)
    boxes = torch.tensor([[0.0, 0, 16, 16]]).repeat(2, 1)
    target = crop_and_resize(masks, boxes, torch.tensor([1, 0]), (4, 4))
    assert target[:, 0].tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]


def test_coverage_is_kept_where_it_is_not_made_binary() -> None:
    masks = rectangles([(0, 0, 5, 8)], 8, 8)
    box = torch.tensor([[0.0, 0, 8, 8]])
    target = crop_and_resize(masks, box, torch.tensor([0]), (2, 2), binarize=False)
    torch.testing.assert_close(target, torch.tensor([[[1.0, 0.25], [1.0, 0.25]]]))


def test_beyond_its_image_a_mask_is_zero_where_the_batch_is_larger() -> None:
    masks = torch.ones(1, 8, 8, dtype=torch.bool)
    box = torch.tensor([[7.5, 7.5, 8.0, 8.0]])
    index = torch.tensor([0])
    alone = crop_and_resize(masks, box, index, (2, 2), binarize=False)
    batch = crop_and_resize(masks, box, index, (2, 2), canvas=(16, 16), binarize=False)
    padded = crop_and_resize(torch.nn.functional.pad(masks, (0, 8, 0, 8)), box, index, (2, 2), binarize=False)
    assert alone.min() == 1
    assert batch.max() < 1
    torch.testing.assert_close(batch, padded)


def test_no_boxes_make_no_targets() -> None:
    empty = torch.zeros(0, 8, 8, dtype=torch.bool)
    indices = torch.zeros(0, dtype=torch.int64)
    assert crop_and_resize(empty, torch.zeros(0, 4), indices, (28, 28)).shape == (0, 28, 28)


def test_a_full_mask_fills_its_box_and_nothing_more() -> None:
    boxes = torch.tensor([[3.0, 5, 11, 9], [0, 0, 16, 12]])
    pasted = paste(torch.ones(2, 28, 28), boxes, (12, 16))
    assert pasted.equal(rectangles([(3, 5, 11, 9), (0, 0, 16, 12)], 12, 16))


def test_a_box_outside_the_image_leaves_no_pixel() -> None:
    assert not paste(torch.ones(1, 28, 28), torch.tensor([[20.0, 20, 30, 30]]), (12, 16)).any()


def test_a_box_without_extent_gives_its_pixels_the_value_of_the_centre() -> None:
    pasted = paste(torch.ones(1, 28, 28), torch.tensor([[4.0, 2, 4, 8]]), (12, 16))
    assert pasted[0].sum(0).tolist() == [0, 0, 0, 6, 6] + [0] * 11


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_pasting_in_pieces_as_a_gpu_does_gives_the_same(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(9, 28, 28, generator=generator)
    corners = torch.rand(9, 2, 2, generator=generator) * 60 - 5
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    one_by_one = paste(masks, boxes, (48, 40), threshold)
    rows, columns = torch.arange(48), torch.arange(40)
    values = module._sample(masks, boxes, rows, columns)
    assert one_by_one.equal((values >= threshold) & module._inside(boxes, rows, columns))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_cut_out_of_a_rectangle_pastes_back_to_it(data: st.DataObject) -> None:
    x1, y1 = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))
    width, height = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    masks = rectangles([(x1, y1, x1 + width, y1 + height)], 40, 40)
    margin = data.draw(st.integers(0, 5))
    box = torch.tensor([[x1 - margin, y1 - margin, x1 + width + margin, y1 + height + margin]]).float()
    box = box.clamp(0, 40)
    side = int((box[0, 2:] - box[0, :2]).max()) * 2
    target = crop_and_resize(masks, box, torch.tensor([0]), (side, side), binarize=False)
    back = paste(target, box, (40, 40))
    assert (back ^ masks).sum() <= 2 * (width + height)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), piece=st.sampled_from([1, 400, 1000, 2**24]))
def test_the_size_of_the_pieces_does_not_show(seed: int, piece: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(5, 20, 20, generator=generator) > 0.5
    boxes = torch.rand(12, 4, generator=generator) * 10
    boxes[:, 2:] += 10
    indices = torch.randint(0, 5, (12,), generator=generator)
    whole = crop_and_resize(masks, boxes, indices, (7, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        assert whole.equal(crop_and_resize(masks, boxes, indices, (7, 7)))


def test_a_thousand_instances_take_little_memory() -> None:
    masks = rectangles([(i % 90, i // 11, i % 90 + 10, i // 11 + 10) for i in range(1000)], 400, 400)
    boxes = torch.stack([torch.tensor([i % 90, i // 11, i % 90 + 10, i // 11 + 10]) for i in range(1000)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target = crop_and_resize(masks, boxes.float(), torch.arange(1000), (28, 28))
    pasted = paste(target, boxes.float(), (400, 400))
    # 160 MB of pasted masks, and twice a piece.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024
    assert pasted.equal(masks)
