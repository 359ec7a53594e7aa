"""Compare real-time detectors with what their references computed on the same weights and images."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.detectors.rtdetr import RTDETR, RTDETRConfig
from detcfg.heads.query.denoising import DenoisingQueries
from detcfg.structures import Detections, Targets
from tests.goldens import fill
from tests.support.experiments import experiment

CONSTANT = ("up", "reg_scale", "num_points_scale")
"""Tensors of the state dict that stay as they are built."""
SCORES = re.compile(r"(^|\.)(enc_score_head|dec_score_head|class_embed)(\.\d+)?\.(weight|bias)$")


def config(name: str, **decoder: Any) -> RTDETRConfig:
    """An experiment's model, with other values in its decoder."""
    model = experiment(name).model
    assert isinstance(model, RTDETRConfig)
    return evolve(model, decoder=cast("Any", evolve(model.decoder, **decoder)))


def filled(name: str, num_denoising: int, num_classes: int = 80) -> RTDETR:
    """An experiment's model whose weights are functions of their names, as the figures' were."""
    model = evolve(config(name, num_denoising=num_denoising), num_classes=num_classes).build()
    model.load_state_dict({key: weight(key, tensor) for key, tensor in model.state_dict().items()})
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


def annotated(figures: dict[str, Any]) -> list[Targets]:
    targets = [figures["targets"][str(seed)] for seed in figures["image_seeds"]]
    return [Targets(boxes=torch.tensor(t["boxes"]), labels=torch.tensor(t["labels"])) for t in targets]


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """An image of noise."""
    return torch.randint(
        256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def compare_detections(model: RTDETR, figures: dict[str, Any]) -> None:
    """The stable ones are the reference's."""
    with torch.no_grad():
        found = model.eval()(pictures(figures))
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


def compare_losses(model: RTDETR, figures: dict[str, Any]) -> Tensor:
    """In training they are the reference's, by name. Their sum."""
    losses = model.train()(pictures(figures), annotated(figures))
    assert isinstance(losses, dict)
    # DEIM leaves out the last denoising layer's distillation from itself, which is 0.
    ours, theirs = ({key for key in some if key != "loss_ddf_dn_2"} for some in (losses, figures["losses"]))
    assert ours == theirs
    for loss, value in figures["losses"].items():
        within = max(1e-4, 20 * figures["stable"]["losses"].get(loss, 0.0))
        assert losses[loss].item() == pytest.approx(value, rel=within, abs=1e-6), loss
    return torch.stack(list(losses.values())).sum()


def compare_training(model: RTDETR, figures: dict[str, Any]) -> None:
    """Losses and gradients are the reference's.

    In double precision: in single, rounding decides in which cell of a map a point lies, and so its gradient.
    """
    model.double()
    model.decoder.denoising = model.decoder.denoising and cast("Any", in_single(model.decoder.denoising))
    torch.manual_seed(0)  # the denoising queries are drawn as the reference draws them
    compare_losses(model, figures).backward()  # type: ignore[no-untyped-call]
    norms = {key: p.grad.norm().item() for key, p in model.named_parameters() if p.grad is not None}
    assert norms.keys() == figures["grad_norms"].keys()
    stable = figures["stable"]
    for key, value in figures["grad_norms"].items():
        # A shift before convolution and norm has no gradient; the reference's is rounding.
        if norms[key] > 1e-9 and key not in stable["ill_conditioned_grad_norms"]:
            within = max(5e-3, 20 * stable["grad_norms_each"].get(key, 0.0))  # the reference's are single
            assert norms[key] == pytest.approx(value, rel=within, abs=1e-6), key


def in_single(draw: Any) -> Any:
    """Denoising queries whose random numbers are float32's, for a model in double precision."""

    def drawn(labels: list[Tensor], boxes: list[Tensor]) -> DenoisingQueries:
        spoilt = draw(labels, [x.float() for x in boxes])
        return evolve(spoilt, boxes=spoilt.boxes.double())

    return drawn
