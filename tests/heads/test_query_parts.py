"""What decoders of queries are made of: matching, its union, denoising, bins and deformable attention."""

from __future__ import annotations

import numpy as np
import torch
from attrs import evolve

from detcfg.boxes.assigners.hungarian import HungarianAssignerConfig, Pairs, solved
from detcfg.boxes.cxcywh import logit, to_cxcywh, to_xyxy
from detcfg.heads.query.denoising import ContrastiveDenoising
from detcfg.heads.query.matching import union
from detcfg.layers.ms_deform_attn import MSDeformAttn, interpolated, nearest
from detcfg.layers.nonuniform_bins import bin_targets, bin_values, expected, moved
from detcfg.layers.sine_position import sine_positions
from detcfg.losses.decoupled_distillation_focal import distillation_loss
from detcfg.losses.fine_grained_localization import fine_grained_localization_loss
from detcfg.losses.matchability_aware import MatchabilityAwareLossConfig
from detcfg.losses.matched_varifocal import MatchedVarifocalLossConfig
from tests.support.experiments import experiment
from tests.support.small import narrow


def pairs(*rows: tuple[int, int, int, int]) -> Pairs:
    return Pairs(*np.array(rows, dtype=np.int64).T)


def rows(found: Pairs) -> set[tuple[int, ...]]:
    return {tuple(row) for row in np.stack([found.images, found.queries, found.objects], axis=1).tolist()}


def test_the_matching_of_least_cost_is_found_although_both_objects_like_one_query() -> None:
    cost = np.array(
        [[[[0.0, 1.0], [5.0, 9.0], [9.0, 9.0]]]], dtype=np.float32
    )  # (1, 1, 3 queries, 2 objects)

    assert rows(solved(cost, [2])) == {(0, 1, 0), (0, 0, 1)}  # 5 + 1, rather than 0 + 9


def test_objects_are_counted_through_the_batch_and_padding_is_matched_with_nothing() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.2, 0.2]])
    labels = [torch.tensor([0]), torch.tensor([1, 0])]
    targets = [boxes[:1], boxes.flip(0)]
    predicted = boxes.expand(3, 2, -1, -1)  # three sets, two images
    found = HungarianAssignerConfig().match(torch.zeros(3, 2, 2, 2), predicted, labels, targets)

    assert len(found) == 3 * 3
    assert rows(found) == {(0, 0, 0), (1, 1, 1), (1, 0, 2)}


def test_the_union_keeps_for_each_query_the_object_that_most_sets_give_it() -> None:
    found = union(pairs((0, 0, 4, 1), (1, 0, 4, 0), (2, 0, 4, 1), (0, 0, 7, 0), (1, 1, 4, 2)))

    assert rows(found) == {(0, 4, 1), (0, 7, 0), (1, 4, 2)}
    assert rows(union(Pairs.none())) == set()


def test_denoising_queries_do_not_see_other_groups_nor_are_seen() -> None:
    torch.manual_seed(0)
    labels, boxes = [torch.tensor([0, 2]), torch.tensor([1])], [torch.rand(2, 4), torch.rand(1, 4)]
    draw = ContrastiveDenoising(num_classes=3, num_denoising=4, label_noise_ratio=0.0, box_noise_scale=1.0)
    spoilt = draw(labels, boxes)
    assert spoilt is not None

    assert spoilt.labels.tolist() == [[0, 2] * 4, [1, 3] * 4]  # two groups of two times two; 3 is padding
    hidden = spoilt.hidden(5)
    assert not hidden[:4, :4].any()
    assert hidden[:4, 4:8].all()
    assert hidden[8:, :8].all()
    assert not hidden[:, 8:].any()
    assert rows(spoilt.pairs) == {(0, 0, 0), (0, 1, 1), (0, 4, 0), (0, 5, 1), (1, 0, 2), (1, 4, 2)}


def test_positives_stay_within_half_their_size_and_negatives_are_farther_off() -> None:
    torch.manual_seed(0)
    box = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    draw = ContrastiveDenoising(num_classes=1, num_denoising=50, label_noise_ratio=0.0, box_noise_scale=1.0)
    spoilt = draw([torch.tensor([0])], [box])
    assert spoilt is not None
    shift = (to_xyxy(spoilt.boxes[0].sigmoid()) - to_xyxy(box)).abs() / torch.tensor([0.1, 0.2, 0.1, 0.2])

    assert shift[0::2].max() <= 1 + 1e-4
    assert shift[1::2].mean() > 1.5 * shift[0::2].mean()  # sides that cross are put in order again
    assert draw([torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)]) is None


def test_bins_are_symmetric_and_finest_around_zero() -> None:
    values = bin_values(32, torch.tensor([0.5]), torch.tensor([4.0]))
    steps = values[1:-1].diff()

    torch.testing.assert_close(values, -values.flip(0))
    assert values[[0, -1]].tolist() == [-4.0, 4.0]
    torch.testing.assert_close(values[-2], torch.tensor(2.0))
    assert (steps[15:].diff() > 0).all()


def test_boxes_move_where_their_targets_say() -> None:
    values, scale = bin_values(32, torch.tensor([0.5]), torch.tensor([4.0])), torch.tensor([4.0])
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    target = torch.tensor([[0.45, 0.3, 0.7, 0.65]])
    left, weight = bin_targets(boxes, target, values, scale).unbind(-1)
    distances = values[left.long()] * (1 - weight) + values[left.long() + 1] * weight

    torch.testing.assert_close(to_xyxy(moved(boxes, distances, scale)), target)
    torch.testing.assert_close(to_cxcywh(to_xyxy(boxes)), boxes)


def test_a_target_beyond_the_bins_has_all_weight_on_the_outermost() -> None:
    values, scale = bin_values(32, torch.tensor([0.5]), torch.tensor([4.0])), torch.tensor([4.0])
    found = bin_targets(
        torch.tensor([[0.5, 0.5, 0.01, 0.01]]), torch.tensor([[0.0, 0.0, 0.5, 1.0]]), values, scale
    )

    assert found[0, 0].tolist() == [31.0, 1.0]  # far to the left
    assert 0 <= found[0, 2, 1] <= 1


def test_a_sure_distribution_has_its_bin_as_mean() -> None:
    values = bin_values(8, torch.tensor([0.5]), torch.tensor([4.0]))
    logits = torch.full((4, 9), -1e4)
    logits[range(4), [0, 4, 6, 8]] = 0.0

    torch.testing.assert_close(expected(logits.flatten(), values), values[[0, 4, 6, 8]])


def test_localization_is_the_cross_entropy_to_two_bins() -> None:
    logits = torch.randn(3, 5)
    target = torch.tensor([[0.0, 0.25], [3.0, 1.0], [2.0, 0.0]])
    log = logits.log_softmax(-1)

    torch.testing.assert_close(
        fine_grained_localization_loss(logits, target),
        torch.stack([-0.75 * log[0, 0] - 0.25 * log[0, 1], -log[1, 4], -log[2, 2]]),
    )


def test_distillation_is_zero_between_equals_and_teaches_the_student_alone() -> None:
    student, teacher = torch.randn(2, 7, requires_grad=True), torch.randn(2, 7, requires_grad=True)

    assert distillation_loss(student, student).abs().max() < 1e-5
    loss = distillation_loss(student, teacher).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss > 0
    assert teacher.grad is None


def test_a_match_that_misses_its_object_weighs_nothing() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    target = torch.tensor([[0.0, -1.0]])
    loss = MatchedVarifocalLossConfig().build().elementwise(logits, target)

    assert loss[0, 0] == 0
    negative = logits[0, 1].sigmoid()
    torch.testing.assert_close(loss[0, 1], -0.75 * negative**2 * (1 - negative).log())


def test_matchability_aware_loss_punishes_a_poor_match_of_high_score() -> None:
    logits = torch.tensor([[4.0]])
    poor, good = (MatchabilityAwareLossConfig().build()(logits, torch.tensor([[q]])) for q in (0.1, 0.9))

    assert poor > 3 * good


def test_positions_of_rows_and_columns_are_told_apart() -> None:
    found = sine_positions(2, 3, 8)

    torch.testing.assert_close(found[0, :4], found[2, :4])  # the same row
    torch.testing.assert_close(found[0, 4:], found[3, 4:])  # the same column
    assert not torch.allclose(found[0, :4], found[3, :4])
    assert found[4, 0].item() == torch.tensor(1.0).sin()


def test_attention_begins_as_the_mean_of_points_around_the_box() -> None:
    attention = MSDeformAttn(8, 2, (1, 2))
    maps = [torch.full((2, 4, 6, 8), 3.0), torch.full((2, 4, 3, 4), 6.0)]
    out = attention(torch.randn(1, 5, 8), torch.tensor([0.5, 0.5, 0.1, 0.1]).expand(1, 5, 4), maps)

    torch.testing.assert_close(out, torch.full((1, 5, 8), 5.0))  # one point of the first, two of the second


def test_on_a_padded_map_attention_reads_where_the_image_is() -> None:
    torch.manual_seed(0)
    attention = MSDeformAttn(8, 2, (3,))
    query, boxes = torch.randn(1, 5, 8), torch.rand(1, 5, 4) * 0.2 + 0.4
    image = torch.randn(2, 4, 6, 8)
    padded = torch.zeros(2, 4, 12, 16)
    padded[..., :6, :8] = image

    torch.testing.assert_close(
        attention(query, boxes, [padded], torch.tensor([[0.5, 0.5]])), attention(query, boxes, [image])
    )


def test_discrete_reading_gives_cells_of_rectangles() -> None:
    maps = torch.arange(12.0).view(1, 1, 2, 6)
    points = torch.tensor([[[[0.75, 0.4], [0.99, 0.99]]]])

    assert nearest(maps, points).flatten().tolist() == [11.0, 11.0]
    torch.testing.assert_close(
        interpolated(maps, torch.tensor([[[[3 / 12, 0.25]]]])).flatten(), torch.tensor([1.0])
    )


def test_the_logit_undoes_the_sigmoid() -> None:
    x = torch.linspace(-5, 5, 11)

    torch.testing.assert_close(logit(x.sigmoid()), x, atol=1e-4, rtol=0)
    assert logit(torch.tensor([0.0, 1.0])).isfinite().all()


@torch.no_grad()
def test_minus_one_keeps_every_query_and_class() -> None:
    model = evolve(narrow(experiment("dfine_n")).model, num_classes=3)
    model = evolve(model, decoder=evolve(model.decoder, max_per_img=-1)).build().eval()
    (found,) = model([torch.zeros(3, 64, 64, dtype=torch.uint8)])

    assert len(found) == 3 * 8  # classes times the narrow model's queries
