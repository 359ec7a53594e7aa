"""What bf16 changes in the detections of a trained model.

    python -m tests.benchmark.half_precision RUN [--images 50] [--scale 1]

Each detection in float32 is looked for among those in bf16: the nearest box of its class. It is found again if no
side is further than half a pixel and the score no further than 0.02; elsewhere NMS has kept another box of two
that overlap, or the list of the best ends at another. `--scale` enlarges the images of the validation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from attrs import frozen
from torch import Tensor
from torch.nn.functional import interpolate

from detcfg.detectors.base import Detector
from detcfg.engine.weights import load_model
from detcfg.experiment import ExperimentConfig
from detcfg.recipe.amp import autocast
from detcfg.structures import Detections

PIXELS = 0.5
SCORE = 0.02


@frozen
class Differences:
    """Of each detection to its counterpart: inf where its class is not among the others."""

    sides: Tensor
    """(D,) pixels: the side of the box that is furthest off."""
    scores: Tensor
    """(D,)."""

    @property
    def found_again(self) -> Tensor:
        """(D,) bool."""
        return (self.sides <= PIXELS) & (self.scores <= SCORE)


def differences(whole: Detections, half: Detections) -> Differences:
    """How far each detection of `whole` is from its nearest in `half`."""
    if len(half) == 0:
        nothing = torch.full_like(whole.scores, torch.inf)
        return Differences(nothing, nothing)
    sides = (whole.boxes[:, None] - half.boxes[None]).abs().amax(dim=-1)
    sides[whole.labels[:, None] != half.labels[None]] = torch.inf
    nearest, index = sides.min(dim=1)
    scores = (whole.scores - half.scores[index]).abs()
    return Differences(nearest, scores.masked_fill(nearest == torch.inf, torch.inf))


@torch.inference_mode()
def compare(model: Detector, images: Sequence[Tensor]) -> Differences:
    """The differences of all images (3, H, W) uint8, one after another."""
    model.eval()
    found: list[Differences] = []
    for image in images:
        (whole,) = model.predict([image])
        with autocast(model, "bf16"):
            (half,) = model.predict([image])
        found.append(differences(whole, half))
    return Differences(torch.cat([d.sides for d in found]), torch.cat([d.scores for d in found]))


def validation_images(experiment: ExperimentConfig, scale: float) -> Iterator[Tensor]:
    """The images of the validation, as the model sees them, enlarged."""
    loader = experiment.data.val_loader(seed=0)
    for batch in loader.epoch(0):
        for image in batch.images:
            large = interpolate(image[None].float(), scale_factor=scale, mode="bilinear", antialias=True)
            yield large[0].round().clamp(0, 255).to(torch.uint8)
    loader.close()


def line(name: str, values: Tensor) -> str:
    """Quantiles of what has a counterpart."""
    quantiles = [float(values.float().quantile(q)) for q in (0.5, 0.95, 0.99, 1.0)]
    return f"{name:12}" + "".join(f"{value:12.4f}" for value in quantiles) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    model, experiment = load_model(given.run)
    found = compare(model, list(islice(validation_images(experiment, given.scale), given.images)))
    count, again = len(found.sides), int(found.found_again.sum())
    if count == 0:
        sys.exit("the model finds nothing in these images")
    sys.stdout.write(f"{again} of {count} detections are found again ({again / count:.1%})\n")
    sys.stdout.write(f"{'':12}" + "".join(f"{name:>12}" for name in ("median", "95%", "99%", "most")) + "\n")
    near = found.sides < torch.inf
    sys.stdout.write(line("sides, px", found.sides[near]) + line("scores", found.scores[near]))


if __name__ == "__main__":
    main()
