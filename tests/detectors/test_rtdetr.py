"""RT-DETRv2 is lyuwenyu/RT-DETR's in names, detections, losses and gradients, and takes images of any sizes."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.detectors.rtdetr import RTDETR
from detcfg.heads.query.rtdetr_transformer import RTDETRTransformerV2
from detcfg.structures import Targets
from tests.support.figures import realtime
from tests.support.realtime import (
    compare_detections,
    compare_losses,
    compare_training,
    config,
    filled,
    picture,
    weight,
)


@pytest.mark.parametrize("depth", [18, 50])
def test_names_detections_losses_and_gradients_are_the_references(depth: int) -> None:
    figures = realtime(f"rtdetrv2_r{depth}_original")
    model = filled(f"rtdetrv2_r{depth}", num_denoising=0)

    assert {name: list(x.shape) for name, x in model.state_dict().items()} == figures["state_dict"]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == figures["trainable"]
    compare_detections(model, figures)
    if depth == 18:
        compare_training(model, figures)
    else:
        with torch.no_grad():
            compare_losses(model, figures)


def test_on_rectangles_detections_are_those_of_transformers() -> None:
    figures = realtime("rtdetrv2_r18")
    model = evolve(config("rtdetrv2_r18"), num_classes=80).build()
    built, found = model.state_dict(), dict[str, list[Tensor]]()
    names = figures["original_names"]
    order = {name: index for index, name in enumerate(("q_proj", "k_proj", "v_proj"))}
    for name in sorted(names, key=lambda name: order.get(name.split(".")[-2], 0)):  # they keep three apart
        ours = built[names[name]]
        empty = ours.new_empty(figures["state_dict"][name])
        found.setdefault(names[name], []).append(ours if "points_scale" in name else weight(name, empty))
    model.load_state_dict(
        {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in found.items()}
    )

    compare_detections(model, figures)


@pytest.mark.parametrize(("depth", "channels"), [(34, 256), (101, 384)])
def test_the_other_sizes_are_those_of_their_configs(depth: int, channels: int) -> None:
    with torch.device("meta"):
        state = evolve(config(f"rtdetrv2_r{depth}"), num_classes=80).build().state_dict()

    assert state["encoder.input_proj.2.conv.weight"].shape == (channels, 2048 if depth > 50 else 512, 1, 1)
    assert state["decoder.input_proj.0.conv.weight"].shape == (256, channels, 1, 1)


@cache
def small(**decoder: object) -> RTDETR:
    torch.manual_seed(0)
    return evolve(config("rtdetrv2_r18", num_queries=12, num_layers=2, **decoder), num_classes=3).build()


def test_an_image_gets_the_same_detections_alone_and_beside_a_larger_one() -> None:
    image = picture(96, 130)
    model = small().eval()
    (alone,) = model([image])
    beside, _ = model([image, picture(200, 160, 1)])

    torch.testing.assert_close(beside.boxes, alone.boxes)
    torch.testing.assert_close(beside.scores, alone.scores)


def test_images_without_objects_train_with_denoising() -> None:
    nothing = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    model = small().train()
    losses = model([picture(96, 96), picture(96, 96, 1)], [nothing, nothing])

    assert isinstance(losses, dict)
    assert {name for name, x in losses.items() if x} == {"loss_vfl", "loss_vfl_aux_0", "loss_vfl_enc_0"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_denoising_has_losses_of_its_own_for_each_layer() -> None:
    one = Targets(boxes=torch.tensor([[8.0, 8.0, 60.0, 60.0]]), labels=torch.tensor([1]))
    losses = small().train()([picture(96, 96)], [one])

    assert isinstance(losses, dict)
    names = ("loss_vfl", "loss_bbox", "loss_giou")
    suffixes = ("", "_aux_0", "_enc_0", "_dn_0", "_dn_1")
    assert losses.keys() == {name + suffix for name in names for suffix in suffixes}
    assert all(loss > 0 for loss in losses.values())


def test_discrete_sampling_leaves_the_offsets_untrained_and_trains_the_rest() -> None:
    one = Targets(boxes=torch.tensor([[8.0, 8.0, 60.0, 60.0]]), labels=torch.tensor([1]))
    model = small(cross_attn_method="discrete").train()
    losses = model([picture(96, 128)], [one])

    assert isinstance(losses, dict)
    assert isinstance(model.decoder, RTDETRTransformerV2)
    torch.stack(list(losses.values())).sum().backward()
    without = {name.split(".")[-2] for name, p in model.named_parameters() if p.grad is None}
    assert without == {"sampling_offsets"}
