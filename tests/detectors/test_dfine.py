"""D-FINE is Peterande/D-FINE's in names, detections, losses and gradients, and takes images of any sizes."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
import torch
from attrs import evolve

from detcfg.config import ConfigError
from detcfg.detectors.dfine import DFINE
from detcfg.detectors.rtdetr import RTDETR
from detcfg.errors import DetcfgError
from detcfg.heads.query.dfine_transformer import DFINETransformer
from detcfg.structures import Targets
from tests.support.figures import realtime
from tests.support.realtime import compare_detections, compare_training, config, filled, picture


@pytest.mark.parametrize("size", "nsmlx")
def test_names_and_shapes_are_those_of_the_published_checkpoints(size: str) -> None:
    figures = realtime("zoo_dfine")[f"configs/dfine/dfine_hgnetv2_{size}_coco.yml"]
    with torch.device("meta"):
        model = evolve(config(f"dfine_{size}"), num_classes=80).build()
    lines = (f"{name} {'x'.join(map(str, x.shape))}" for name, x in sorted(model.state_dict().items()))

    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == figures["sha256_without_anchors"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == figures["trainable"]


@pytest.mark.parametrize("name", ["dfine_n", "dfine_s_wide", "dfine_s_denoising"])
def test_detections_losses_and_gradients_are_the_references(name: str) -> None:
    figures = realtime(name)
    model = filled(name[:7], figures["settings"]["decoder"]["num_denoising"])

    assert isinstance(model, DFINE)
    compare_detections(model, figures)
    compare_training(model, figures)


def test_deim_is_its_reference_in_detections_losses_and_gradients() -> None:
    figures = realtime("deim_dfine_n")
    model = filled("deim_dfine_n", figures["settings"]["decoder"]["num_denoising"])

    compare_detections(model, figures)
    compare_training(model, figures)


@pytest.mark.parametrize("size", "ns")
def test_deim_has_the_names_of_dfine(size: str) -> None:
    with torch.device("meta"):
        theirs, ours = (
            evolve(config(name), num_classes=80).build().state_dict()
            for name in (f"dfine_{size}", f"deim_dfine_{size}")
        )

    assert {name: x.shape for name, x in theirs.items()} == {name: x.shape for name, x in ours.items()}


@cache
def small() -> RTDETR:
    torch.manual_seed(0)
    model = evolve(config("dfine_n", num_queries=12, num_layers=2), num_classes=3).build()
    return model.eval()


def test_an_image_gets_the_same_detections_alone_and_beside_a_larger_one() -> None:
    image = picture(96, 130)
    (alone,) = small()([image])
    beside, _ = small()([image, picture(200, 160, 1)])

    torch.testing.assert_close(beside.boxes, alone.boxes)
    torch.testing.assert_close(beside.scores, alone.scores)


def test_in_training_padding_is_no_query_and_is_not_looked_at() -> None:
    model = (
        evolve(config("dfine_n", num_queries=12, num_layers=1, num_denoising=0), num_classes=3)
        .build()
        .train()
    )
    for module in model.modules():  # the statistics of a batch do depend on what is in it
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    images = [picture(64, 96), picture(128, 128, 1)]
    batch = model.data_preprocessor(images)
    padding = batch.padding(model.extract_features(batch.tensor))
    assert padding is not None
    features = model.encoder(model.extract_features(batch.tensor), padding)
    assert isinstance(model.decoder, DFINETransformer)
    queries = model.decoder.begin(features, batch)
    found, selected = model.decoder.refined(queries, every_layer=True), queries.selected

    assert [mask[0].sum().item() for mask in padding] == [8 * 8 - 4 * 6, 4 * 4 - 2 * 3]
    assert (
        selected.points[0].sigmoid()[:, :2].max() <= 1.2
    )  # near cells of its own 24 + 6, not of the padding
    assert found.boxes.isfinite().all()


def test_more_queries_than_cells_are_refused_with_the_size_that_is_needed() -> None:
    model = evolve(config("dfine_n"), num_classes=3).build().eval()

    with pytest.raises(DetcfgError, match=r"num_queries is 300.*64x96 pixels has only 30 cells.*3\.2 times"):
        model([picture(64, 96)])


def test_a_number_of_points_for_each_map_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"decoder: num_points has 3 numbers.*2 maps"):
        evolve(config("dfine_n", num_points=(3, 6, 3)), num_classes=3).resolved()


def test_images_without_objects_train_with_and_without_denoising() -> None:
    nothing = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    model = evolve(config("dfine_n", num_queries=12, num_layers=2), num_classes=3).build().train()
    losses = model([picture(96, 96), picture(96, 96, 1)], [nothing, nothing])

    assert isinstance(losses, dict)
    classes = {f"loss_vfl{suffix}" for suffix in ("", "_aux_0", "_pre", "_enc_0")}
    assert {name for name, x in losses.items() if x} == classes  # layers agree as long as no weight has moved
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_crowd_is_no_object() -> None:
    model = (
        evolve(config("dfine_n", num_queries=12, num_layers=1, num_denoising=0), num_classes=3)
        .build()
        .train()
    )
    boxes, labels = torch.tensor([[8.0, 8.0, 60.0, 60.0], [0.0, 0.0, 90.0, 90.0]]), torch.tensor([1, 2])
    crowd = Targets(boxes=boxes, labels=labels, ignored=torch.tensor([False, True]))
    alone = Targets(boxes=boxes[:1], labels=labels[:1])

    assert model([picture(96, 96)], [crowd]) == model([picture(96, 96)], [alone])
