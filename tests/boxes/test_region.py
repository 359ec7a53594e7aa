"""Assignment by the region around an object's centre."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import IGNORED, NEGATIVE
from detcfg.boxes.assigners.region import RegionAssignerConfig, object_levels
from detcfg.layers.adaptive_conv import anchor_offsets
from detcfg.structures import Targets

STRIDES = (4, 8)
SIZES = ((16, 16), (8, 8))
ANCHORS = AnchorGeneratorConfig(strides=STRIDES, scales=(4.0,), ratios=(1.0,)).grid_priors(SIZES)


def _assign(*boxes: tuple[float, float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    targets = Targets(
        boxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.zeros(len(boxes), dtype=torch.long)
    )
    found = RegionAssignerConfig().assign(
        torch.cat(list(ANCHORS)),
        targets,
        num_level_priors=[len(level) for level in ANCHORS],
        featmap_sizes=SIZES,
        strides=STRIDES,
        anchor_scale=4.0,
    )
    fine, coarse = torch.split(found.gt_indices, [256, 64])
    return fine.view(16, 16), coarse.view(8, 8)


def test_the_middle_of_an_object_learns_it_and_its_surroundings_learn_nothing() -> None:
    """A box of 20 pixels is of the first level, whose anchors have 16."""
    fine, coarse = _assign((8.0, 8.0, 28.0, 28.0))  # cells 2 to 7: centre 4 to 5, surroundings 3 to 6

    wanted = torch.full((16, 16), NEGATIVE)
    wanted[3:7, 3:7] = IGNORED
    wanted[4:6, 4:6] = 0
    assert torch.equal(wanted, fine)
    assert (coarse == IGNORED).any()
    assert not (coarse >= 0).any()


def test_of_two_objects_at_one_place_the_later_is_learnt() -> None:
    fine, _ = _assign((8.0, 8.0, 28.0, 28.0), (8.0, 8.0, 28.0, 28.0))
    assert {NEGATIVE, IGNORED, 1} == set(fine.flatten().tolist())


def test_without_objects_all_is_background() -> None:
    fine, coarse = _assign()
    assert (fine == NEGATIVE).all()
    assert (coarse == NEGATIVE).all()


def test_an_object_belongs_to_the_level_whose_anchors_are_nearest_in_size() -> None:
    sides = torch.tensor([1.0, 16.0, 22.0, 23.0, 32.0, 45.0, 46.0, 1000.0])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)

    assert [0, 0, 0, 1, 1, 1, 2, 2] == object_levels(boxes, 16.0, 3).tolist()


@given(st.tuples(*[st.floats(0, 40)] * 2), st.tuples(*[st.floats(1, 40)] * 2))
def test_the_kernel_samples_the_anchors_corners_edges_and_centre(
    corner: tuple[float, float], size: tuple[float, float]
) -> None:
    (x1, y1), (width, height) = corner, size
    anchors = torch.tensor([[[x1, y1, x1 + width, y1 + height]] * 6])

    offsets = anchor_offsets(anchors, 4, (2, 3)).view(3, 3, 2, 2, 3)  # tap row, tap column, (y, x), H, W

    row, column = 1, 2  # any place: all have the same anchor
    for tap_row in range(3):
        for tap_column in range(3):
            y, x = offsets[tap_row, tap_column, :, row, column] + torch.tensor(
                [row + tap_row - 1, column + tap_column - 1]
            )
            torch.testing.assert_close(y * 4, torch.tensor(y1 + height * tap_row / 2), atol=1e-3, rtol=0)
            torch.testing.assert_close(x * 4, torch.tensor(x1 + width * tap_column / 2), atol=1e-3, rtol=0)
