"""Non-maximum suppression is its rule, box by box."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detcfg import ops
from detcfg.boxes.iou import bbox_overlaps
from detcfg.boxes.matrix_nms import matrix_nms
from detcfg.boxes.nms import NMSConfig, multiclass_nms, offset_by_group
from detcfg.boxes.soft_nms import SoftNMSConfig
from tests.support.worlds import CLASSES, SEEDS, boxes, generator

COUNTS = st.integers(0, 40)
THRESHOLDS = st.sampled_from([0.0, 0.3, 0.5, 0.9])


def candidates(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and classes."""
    draw = generator(seed)
    found = boxes(count, draw, extent=30)
    return found, torch.rand(count, generator=draw), torch.randint(CLASSES, (count,), generator=draw)


def reference(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """The rule: by falling score, each box that does not overlap a kept one by more than the threshold."""
    overlaps = bbox_overlaps(boxes, boxes).tolist()
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlaps[index][other] <= threshold for other in kept):
            kept.append(index)
    return kept


@given(SEEDS, COUNTS, THRESHOLDS)
def test_a_box_is_kept_unless_it_overlaps_a_better_one(seed: int, count: int, threshold: float) -> None:
    found, scores, _ = candidates(seed, count)

    kept, its_scores = NMSConfig(iou_threshold=threshold).keep(found, scores)

    assert kept.tolist() == reference(found, scores, threshold)
    assert its_scores.equal(scores[kept])


@pytest.mark.parametrize(
    "nms", [NMSConfig(iou_threshold=0.4), SoftNMSConfig(method="naive", iou_threshold=0.4)]
)
@given(seed=SEEDS, count=COUNTS)
def test_what_was_kept_is_kept_again(nms: NMSConfig, seed: int, count: int) -> None:
    found, scores, classes = candidates(seed, count)

    kept, its_scores = nms.keep(found, scores, classes)
    again, _ = nms.keep(found[kept], its_scores, classes[kept])

    assert again.tolist() == list(range(len(kept)))


@given(SEEDS, COUNTS, THRESHOLDS)
def test_all_classes_at_once_are_each_class_by_itself(seed: int, count: int, threshold: float) -> None:
    found, scores, classes = candidates(seed, count)
    nms = NMSConfig(iou_threshold=threshold)

    kept, _ = nms.keep(found, scores, classes)

    wanted: list[int] = []
    for number in range(CLASSES):
        rows = torch.nonzero(classes == number).flatten()
        wanted += rows[reference(found[rows], scores[rows], threshold)].tolist()
    assert sorted(wanted) == sorted(kept.tolist())
    assert (scores[kept].diff() <= 0).all()
    assert nms.keep(found, scores, torch.zeros_like(classes))[0].equal(nms.keep(found, scores)[0])


@given(SEEDS, COUNTS, st.data())
def test_the_order_of_the_candidates_does_not_matter(seed: int, count: int, data: st.DataObject) -> None:
    found, scores, classes = candidates(seed, count)
    order = torch.tensor(data.draw(st.permutations(range(count))), dtype=torch.long)

    kept, _ = NMSConfig().keep(found, scores, classes)
    again, _ = NMSConfig().keep(found[order], scores[order], classes[order])

    assert order[again].equal(kept)


@given(SEEDS, st.integers(1, 40))
def test_torchvision_keeps_the_same(seed: int, count: int) -> None:
    import torchvision

    found, scores, classes = candidates(seed, count)
    wanted = torchvision.ops.batched_nms(found, scores, classes, 0.5)

    assert ops.nms(offset_by_group(found, classes), scores, 0.5, classes).equal(wanted)


@given(SEEDS, st.integers(0, 20), st.sampled_from([-1, 0, 1, 5]), st.floats(0, 1))
def test_detections_are_the_best_of_all_classes(seed: int, count: int, most: int, score_thr: float) -> None:
    draw = generator(seed)
    rois, scores = boxes(count, draw, extent=30), torch.rand(count, CLASSES, generator=draw)
    nms = NMSConfig(iou_threshold=0.5)

    found = multiclass_nms(rois, scores, score_thr=score_thr, nms=nms, max_per_img=most)

    wanted: list[tuple[float, int, int]] = []
    for label in range(CLASSES):
        rows = torch.nonzero(scores[:, label] > score_thr).flatten()
        kept = rows[reference(rois[rows], scores[rows, label], 0.5)]
        wanted += [(-float(scores[row, label]), label, int(row)) for row in kept]
    wanted = sorted(wanted)[: most if most >= 0 else None]
    detected, its_scores, labels, sources = found
    assert [
        (-score, label, row)
        for score, label, row in zip(its_scores.tolist(), labels.tolist(), sources.tolist(), strict=True)
    ] == wanted
    assert detected.equal(rois[sources])


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@given(seed=SEEDS, count=st.integers(1, 12))
def test_matrix_nms_only_lowers_scores_and_leaves_what_overlaps_nothing(
    kernel: str, seed: int, count: int
) -> None:
    draw = generator(seed)
    masks = torch.rand(count, 6, 6, generator=draw) > 0.7
    masks[:, 0, 0] = True
    scores = torch.rand(count, generator=draw).sort(descending=True).values
    classes = torch.randint(CLASSES, (count,), generator=draw)

    lowered = matrix_nms(masks, scores, classes, kernel=kernel)  # type: ignore[arg-type]

    assert (lowered <= scores + 1e-6).all()
    assert lowered[0] == scores[0]
    assert matrix_nms(masks, scores, torch.arange(count), kernel=kernel).equal(scores)  # type: ignore[arg-type]
