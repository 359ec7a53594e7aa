"""DETR's parts where the goldens do not look: padding, matching, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from detcfg.boxes.match_costs.classification import ClassificationCostConfig
from detcfg.config import ConfigError
from detcfg.detectors.detr import padded_cells
from detcfg.heads.query.conditional_detr_decoder import ConditionalDetrTransformerDecoderConfig
from detcfg.heads.query.detr_decoder import Cells, Decoded
from detcfg.heads.query.detr_head import DETRHeadConfig, DETRTestConfig
from detcfg.layers.multihead_attention import MultiheadAttentionConfig
from detcfg.layers.positional_encoding import SinePositionalEncodingConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.necks.channel_mapper import ChannelMapperConfig
from detcfg.structures import ImageBatch, Targets
from tests.support.experiments import experiment
from tests.support.small import narrow


def batch_of(*sizes: tuple[int, int]) -> ImageBatch:
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    return ImageBatch(
        tensor=torch.zeros(len(sizes), 3, height, width), sizes=sizes, padded_sizes=sizes, output_sizes=sizes
    )


def test_a_cell_is_padding_where_its_first_pixel_is_beyond_the_image() -> None:
    padding = padded_cells(batch_of((64, 96), (33, 64)), torch.zeros(2, 4, 2, 3))
    assert not padding[0].any()
    assert padding[1].tolist() == [[False, False, True], [False, False, True]]


def test_positions_count_in_shares_of_the_image_not_of_the_batch() -> None:
    encode = SinePositionalEncodingConfig(num_feats=8, normalize=True).build()
    alone = encode(torch.zeros(1, 2, 3, dtype=torch.bool))
    beside = encode(padded_cells(batch_of((64, 96), (128, 160)), torch.zeros(2, 4, 4, 5)))
    torch.testing.assert_close(beside.view(2, 4, 5, 16)[:1, :2, :3].flatten(1, 2), alone)


def test_positions_without_normalisation_are_numbers_of_rows_and_columns() -> None:
    found = SinePositionalEncodingConfig(num_feats=2).build()(torch.zeros(1, 2, 2, dtype=torch.bool))
    last = torch.tensor([2.0, 2.0])
    torch.testing.assert_close(found[0, -1], torch.stack([last.sin(), last.cos()], dim=1).flatten())


def test_the_classification_cost_is_the_probability_among_all_logits() -> None:
    logits = torch.tensor([[[[0.0, 1.0, 2.0]]]])
    cost = ClassificationCostConfig().cost(logits, logits, torch.tensor([[1, 0]]), logits)
    torch.testing.assert_close(cost[0, 0, 0], -logits.softmax(-1)[0, 0, 0, [1, 0]])


def test_with_independent_classes_a_query_may_be_several_detections() -> None:
    torch.manual_seed(0)
    head = DETRHeadConfig(
        num_classes=3,
        embed_dims=8,
        loss_cls=FocalLossConfig(loss_weight=2.0),
        test_cfg=DETRTestConfig(max_per_img=-1),
    ).build()
    states, batch = Decoded(torch.randn(2, 1, 4, 8), None), batch_of((32, 48))
    found = head.predict(states, batch)[0]
    assert sorted(found.labels.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    assert (found.boxes <= torch.tensor([48.0, 32.0, 48.0, 32.0])).all()
    targets = Targets(boxes=torch.tensor([[4.0, 4.0, 20.0, 20.0]]), labels=torch.tensor([2]))
    losses = head.loss(states, batch, [targets])
    assert set(losses) == {f"{layer}loss_{name}" for layer in ("", "d0.") for name in ("cls", "bbox", "iou")}


def test_more_objects_than_queries_leave_some_unmatched() -> None:
    head = DETRHeadConfig(num_classes=3, embed_dims=8).build()
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 16.0], [4.0, 4.0, 30.0, 30.0]])
    losses = head.loss(
        Decoded(torch.randn(1, 1, 2, 8), None),
        batch_of((32, 32)),
        [Targets(boxes=boxes, labels=torch.arange(3))],
    )
    assert all(loss.isfinite() for loss in losses.values())


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_heads is 8, which does not divide embed_dims, 12"):
        MultiheadAttentionConfig(embed_dims=12).build()


def test_a_mapper_makes_coarser_maps_and_refuses_to_leave_some_out() -> None:
    config = ChannelMapperConfig(in_channels=(4, 8), in_strides=(8, 16), out_channels=6, num_outs=4)
    maps = config.build()((torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)))
    assert [tuple(x.shape[1:]) for x in maps] == [(6, 8, 8), (6, 4, 4), (6, 2, 2), (6, 1, 1)]
    assert config.feature_strides == (8, 16, 32, 64)
    with pytest.raises(ConfigError, match=r"num_outs is 1, and 2 maps come in"):
        evolve(config, num_outs=1).resolved()


def test_detr_refuses_a_neck_whose_channels_positions_do_not_fill() -> None:
    model = narrow(experiment("detr").model)
    with pytest.raises(ConfigError, match=r"neck.feature_channels ends in 30"):
        evolve(model, num_classes=3, neck=ChannelMapperConfig(out_channels=30)).resolved()


def test_conditional_detrs_queries_do_not_see_padding_and_boxes_count_from_their_points() -> None:
    torch.manual_seed(0)
    decoder = ConditionalDetrTransformerDecoderConfig(embed_dims=16, num_layers=2).build()
    positions, values, places = torch.randn(1, 3, 16), torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    padding = torch.tensor([[False, False, False, True, True]])
    beside = decoder(positions, Cells(values, places, padding))
    alone = decoder(positions, Cells(values[:, :3], places[:, :3], None))
    torch.testing.assert_close(beside.states, alone.states)
    assert beside.references.shape == (1, 3, 2)

    head = DETRHeadConfig(num_classes=3, embed_dims=16).build()
    torch.nn.init.zeros_(head.fc_reg.weight)
    torch.nn.init.zeros_(head.fc_reg.bias)
    torch.testing.assert_close(head(beside)[1][-1, ..., :2], beside.references)


def test_the_only_layer_of_conditional_detr_leaves_no_parameter_without_a_gradient() -> None:
    decoder = ConditionalDetrTransformerDecoderConfig(embed_dims=16, num_layers=1).build()
    cells = Cells(torch.randn(1, 4, 16), torch.randn(1, 4, 16), None)
    found = decoder(torch.randn(1, 3, 16), cells)
    (found.states.sum() + found.references.sum()).backward()
    assert [name for name, p in decoder.named_parameters() if p.requires_grad and p.grad is None] == []
