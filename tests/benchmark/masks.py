"""Time and memory of masks, for images of 10, 100 and 1,000 objects.

    python -m tests.benchmark.masks [EXPERIMENT] [--size HEIGHT WIDTH] [--device cuda] [--limit 2]

Each row is one image: a training step on its objects, a prediction of as many detections with their masks, and
COCO's numbers of these masks. The peaks are above the model, its optimizer and the image. It fails where one
is above the limit, in GB; the masks of the image themselves count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from math import ceil, cos, pi, sin
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg import load_experiment
from detcfg.benchmark.measure import peak_memory, timed
from detcfg.detectors.base import Detector
from detcfg.detectors.two_stage import TwoStageDetectorConfig
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.structures import Detections, Targets

COUNTS = (10, 100, 1000)
GB = 1e9
CORNERS = 12


@frozen
class Annotations:
    """One image of ellipses, as a COCO file has it."""

    boxes: Tensor
    size: tuple[int, int]

    def ground_truth(self) -> dict[str, Any]:
        boxes: list[list[float]] = self.boxes.tolist()
        objects = [
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) * pi / 4,
                "segmentation": [polygon(x1, y1, x2, y2)],
            }
            for index, (x1, y1, x2, y2) in enumerate(boxes)
        ]
        height, width = self.size
        image = {"id": 1, "height": height, "width": width, "file_name": "1.png"}
        return {"images": [image], "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}


def polygon(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """The ellipse in a box."""
    angles = [2 * pi * corner / CORNERS for corner in range(CORNERS)]
    x, y, a, b = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    return [value for angle in angles for value in (x + a * cos(angle), y + b * sin(angle))]


def cells(count: int, size: tuple[int, int]) -> Targets:
    """Ellipses side by side, all over the image."""
    height, width = size
    columns = ceil((count * width / height) ** 0.5)
    rows = ceil(count / columns)
    places = torch.arange(count)
    corner = torch.stack((places % columns * (width / columns), places // columns * (height / rows)), dim=1)
    boxes = torch.cat((corner, corner + torch.tensor([width / columns, height / rows]) * 0.9), dim=1)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask, box in zip(masks, boxes, strict=True):
        x1, y1, x2, y2 = (int(side) for side in box)
        y, x = torch.meshgrid(torch.arange(y1, y2) + 0.5, torch.arange(x1, x2) + 0.5, indexing="ij")
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        mask[y1:y2, x1:x2] = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
    return Targets(boxes=boxes, labels=torch.zeros(count, dtype=torch.long), masks=masks)


def finding(config: Any, count: int) -> Any:
    """A two-stage model of one class that gives so many detections, however little it believes in them."""
    roi_head = config.roi_head
    nms = evolve(roi_head.test_cfg.nms, iou_threshold=0.99)
    test_cfg = evolve(roi_head.test_cfg, score_thr=0.0, max_per_img=count, nms=nms)
    return evolve(config, num_classes=1, roi_head=evolve(roi_head, test_cfg=test_cfg))


def row(config: Any, count: int, size: tuple[int, int], device: torch.device) -> float:
    """Print the figures of an image of so many objects; the highest peak in GB."""
    torch.manual_seed(0)
    model: Detector = finding(config, count).build().to(device)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    annotations = Annotations(cells(count, size).boxes, size)
    made: list[Detections] = []

    def step() -> None:
        losses = model.train().loss([image], [cells(count, size)])
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def predict() -> None:
        with torch.inference_mode():
            made[:] = model.eval().predict([image])

    def evaluate() -> None:
        evaluator = CocoEvaluator(annotations, ("segm",))
        evaluator.add(1, made[0].to("cpu"))
        evaluator.compute()

    small = cells(2, size)
    torch.stack(
        list(model.train().loss([image], [small]).values())
    ).sum().backward()  # gradients are the model's
    figures: list[str] = [f"{count:8,}"]
    peaks: list[float] = []
    tasks: tuple[Callable[[], object], ...] = (step, predict, evaluate)
    for task in tasks:
        peak = peak_memory(task, device if task is not evaluate else torch.device("cpu"))
        seconds = timed(task, device)
        peaks.append((peak or 0) / GB)
        figures.append(f"{seconds:8.2f} s {'?' if peak is None else f'{peak / GB:5.2f}':>5} GB")
    figures.append(f"{count * size[0] * size[1] / GB:5.2f} GB   {len(made[0]):,}")
    sys.stdout.write("  ".join(figures) + "\n")
    sys.stdout.flush()
    return max(peaks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", nargs="?", default="mask_rcnn")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=float, default=2.0)
    given = parser.parse_args()
    config = load_experiment(given.experiment).model
    if not isinstance(config, TwoStageDetectorConfig):
        sys.exit(f"{given.experiment} is no two-stage model")
    size = (given.size[0], given.size[1])
    sys.stdout.write(f"{given.experiment}, one image of {size[0]} x {size[1]}, {given.device}\n")
    sys.stdout.write(
        " objects       training step           prediction           COCO's numbers   its masks  detections\n"
    )
    worst = max(row(config, count, size, torch.device(given.device)) for count in COUNTS)
    if worst > given.limit:
        sys.exit(f"{worst:.2f} GB is above the limit of {given.limit} GB")


if __name__ == "__main__":
    main()
