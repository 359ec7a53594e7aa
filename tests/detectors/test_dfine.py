"""D-FINE is Peterande/D-FINE's in names, detections, losses and gradients, and takes images of any sizes."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg import load_experiment
from detcfg.config import ConfigError
from detcfg.detectors.dfine import DFINE, DFINEConfig
from detcfg.errors import DetcfgError
from detcfg.heads.query.denoising import DenoisingQueries
from detcfg.structures import Detections, Targets
from tests.goldens import fill
from tests.support.figures import realtime

CONSTANT = ("up", "reg_scale", "num_points_scale")
"""Tensors of the state dict that stay as they are built."""
SCORES = re.compile(r"(enc_score_head|dec_score_head)(\.\d+)?\.(weight|bias)$")


def config(name: str, **decoder: Any) -> DFINEConfig:
    model = load_experiment(name).model
    assert isinstance(model, DFINEConfig)
    return evolve(model, decoder=evolve(model.decoder, **decoder))


def filled(name: str, num_denoising: int) -> DFINE:
    """A model whose weights are functions of their names, as the figures' were."""
    model = evolve(config(name[:7], num_denoising=num_denoising), num_classes=80).build()
    state = model.state_dict()
    model.load_state_dict({key: weight(key, tensor) for key, tensor in state.items()})
    return model


def weight(name: str, built: Tensor) -> Tensor:
    """`fill`, but for constants; scales around 1, larger convolutions, and classifiers with a prior."""
    if name.rsplit(".", 1)[-1] in CONSTANT:
        return built
    value: Tensor = fill.fill(name, tuple(built.shape), built.dtype)
    if name.endswith(".lab.scale"):
        return value + 1.0
    if value.ndim == 4:
        return value * (1.4 if "backbone" in name else 1.3)
    if SCORES.search(name):
        return value * 1.5 if name.endswith("weight") else value - 4.6
    return value


def pictures(figures: dict[str, Any]) -> list[Tensor]:
    return [
        fill.image(*size, seed) for size, seed in zip(figures["sizes"], figures["image_seeds"], strict=True)
    ]


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
    model = filled(name, figures["settings"]["decoder"]["num_denoising"]).eval()
    images = pictures(figures)
    with torch.no_grad():
        found = model(images)
    for ours, theirs, leading in zip(
        found, figures["detections"], figures["stable"]["leading_detections"], strict=True
    ):
        assert isinstance(ours, Detections)
        assert len(ours) == theirs["count"]
        assert ours.labels[:leading].tolist() == theirs["labels"][:leading]
        torch.testing.assert_close(
            ours.scores[:leading], torch.tensor(theirs["scores"][:leading]), atol=1e-3, rtol=0
        )
        torch.testing.assert_close(
            ours.boxes[:leading], torch.tensor(theirs["boxes"][:leading]), atol=0.05, rtol=0
        )

    # In double precision: in single, rounding decides in which cell of a map a point lies, and so its gradient.
    model.double().train()
    model.decoder.denoising = model.decoder.denoising and in_single(model.decoder.denoising)
    torch.manual_seed(0)  # the denoising queries are drawn as the reference draws them
    losses = model(images, annotated(figures))
    assert isinstance(losses, dict)
    assert losses.keys() == figures["losses"].keys()
    stable = figures["stable"]
    for loss, value in figures["losses"].items():
        within = max(1e-4, 20 * stable["losses"].get(loss, 0.0))
        assert losses[loss].item() == pytest.approx(value, rel=within, abs=1e-6), loss
    torch.stack(list(losses.values())).sum().backward()
    norms = {key: p.grad.norm().item() for key, p in model.named_parameters() if p.grad is not None}
    assert norms.keys() == figures["grad_norms"].keys()
    for key, value in figures["grad_norms"].items():
        # A shift before convolution and norm has no gradient; the reference's is rounding.
        if norms[key] > 1e-9 and key not in stable["ill_conditioned_grad_norms"]:
            within = max(5e-3, 20 * stable["grad_norms_each"].get(key, 0.0))  # the reference's are single
            assert norms[key] == pytest.approx(value, rel=within, abs=1e-6), key


def annotated(figures: dict[str, Any]) -> list[Targets]:
    targets = [figures["targets"][str(seed)] for seed in figures["image_seeds"]]
    return [Targets(boxes=torch.tensor(t["boxes"]), labels=torch.tensor(t["labels"])) for t in targets]


def in_single(draw: Any) -> Any:
    """Denoising queries whose random numbers are float32's, for a model in double precision."""

    def drawn(labels: list[Tensor], boxes: list[Tensor]) -> DenoisingQueries:
        spoilt = draw(labels, [x.float() for x in boxes])
        return evolve(spoilt, boxes=spoilt.boxes.double())

    return drawn


@cache
def small() -> DFINE:
    torch.manual_seed(0)
    model = evolve(config("dfine_n", num_queries=12, num_layers=2), num_classes=3).build()
    return model.eval()


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(
        256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


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
    found, selected = model.decoder.decode(features, batch)

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
