"""The data pipeline that is measured: from a JPEG file to what a network sees, in one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen
from PIL import Image
from torch import Tensor

from detcfg.data.base import ImageInfo, Sample
from detcfg.data.images import read_image
from detcfg.data.transforms import Pipeline, RandomFlipConfig, ResizeConfig, TransformConfig
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.experiment import ExperimentConfig
from detcfg.structures import Targets, ceil_to, rescaled_size

SIZE = (480, 640)
"""Height and width of the files, as most of COCO's are."""
FILES = 8
LARGE = (2400, 3200)
"""As cameras make them."""
LARGE_FILES = 2


def write_images(folder: Path, size: tuple[int, int] = SIZE, count: int = FILES) -> list[Path]:
    """Some JPEGs of smooth noise, which take about as long to decode as photographs do."""
    chance = np.random.default_rng(0)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for path in paths:
        coarse = Image.fromarray(chance.integers(0, 256, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8))
        coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path, quality=95)
    return paths


def detcfg_pipeline(
    experiment: ExperimentConfig, paths: Sequence[Path], draft_size: tuple[int, int] | None = None
) -> Callable[[], list[Tensor]]:
    """Read, transform as in training, normalise and pad."""
    pipeline = Pipeline(experiment.data.train_transforms)
    preprocessor = evolve(experiment.model.data_preprocessor, batch_augments=()).build()
    nothing = Targets(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))

    def run() -> list[Tensor]:
        made: list[Tensor] = []
        for index, path in enumerate(paths):
            image = read_image(str(path), draft_size=draft_size)
            info = ImageInfo(image_id=index, path=str(path), size=(image.shape[1], image.shape[2]))
            sample = Sample(image=image, targets=nothing, info=info)
            made.append(preprocessor([pipeline(sample, index).image]).tensor[0])
        return made

    return _in_one_thread(run)


def cv2_pipeline(experiment: ExperimentConfig, paths: Sequence[Path]) -> Callable[[], list[Tensor]] | None:
    """The same operations on the same files with OpenCV and NumPy, as MMDetection does them.

    None where OpenCV is not installed, or the experiment has other transforms than a resize and a flip.
    """
    steps = resize_and_flip(experiment.data.train_transforms)
    if steps is None or find_spec("cv2") is None:
        return None
    cv2: Any = import_module("cv2")
    settings = experiment.model.data_preprocessor
    mean, inverse = np.array([settings.mean], np.float64), 1 / np.array([settings.std], np.float64)

    def run() -> list[Tensor]:
        cv2.setNumThreads(1)
        made: list[Tensor] = []
        chance = np.random.default_rng(0)
        for path in paths:
            image = cv2.imread(str(path))
            height, width = rescaled_size(image.shape[:2], steps.resize.scale)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            if chance.random() < steps.flip.prob:
                image = np.ascontiguousarray(np.flip(image, 1))
            image = image.astype(np.float32)
            if settings.channel_order == "rgb":
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
            cv2.subtract(image, mean, image)
            cv2.multiply(image, inverse, image)
            made.append(_padded(image, settings))
        return made

    return _in_one_thread(run)


def _padded(image: Any, settings: DetDataPreprocessorConfig) -> Tensor:
    height, width = (ceil_to(side, settings.pad_size_divisor) for side in image.shape[:2])
    padded = np.full((height, width, 3), settings.pad_value, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return torch.as_tensor(np.ascontiguousarray(padded.transpose(2, 0, 1)))


@frozen
class Steps:
    """The transforms of MMDetection's usual training."""

    resize: ResizeConfig
    flip: RandomFlipConfig


def resize_and_flip(transforms: Sequence[TransformConfig]) -> Steps | None:
    """A resize and a flip, if that is what the transforms are."""
    match tuple(transforms):
        case (ResizeConfig(keep_ratio=True) as resize, RandomFlipConfig(direction="horizontal") as flip):
            return Steps(resize, flip)
        case _:
            return None


def _in_one_thread(run: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    def task() -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run()
        finally:
            torch.set_num_threads(before)

    return task
