"""Test-time augmentation: views of an image, and their detections brought back to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError
from detcfg.detectors.det_tta_model import DetTTAModel, DetTTAModelConfig, mirrored
from detcfg.engine.validation import validate
from detcfg.engine.weights import put_weights
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.experiments import mask_rcnn_nuclei
from detcfg.structures import Detections, ImageBatch
from tests.support.tiny import experiment

TINY = experiment().resolved().model
KEEP_ALL = NMSConfig(iou_threshold=1.0)


def image(height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def tta(**values: object) -> DetTTAModel:
    torch.manual_seed(0)
    return DetTTAModelConfig(detector=TINY, **{"num_classes": 4, **values}).build().eval()  # type: ignore[arg-type]


def test_one_view_of_the_same_size_is_the_detector_itself() -> None:
    model = tta(scales=((96, 64),), flip=False, nms=KEEP_ALL)
    with torch.no_grad():
        (found,), (expected,) = (
            model.predict([image()], [(32, 48)]),
            model.detector.predict([image()], [(32, 48)]),
        )
    assert len(expected)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.scores, expected.scores)


def test_a_mirror_image_alone_is_found_where_it_was_before_the_mirror() -> None:
    model = tta(scales=((96, 64),), flip=True, nms=KEEP_ALL, max_per_img=-1)
    with torch.no_grad():
        (found,) = model.predict([image()])
        (plain,), (flipped,) = model.detector.predict([image()]), model.detector.predict([image().flip(2)])
    both = torch.cat((plain.scores, flipped.scores))
    assert torch.equal(found.scores, both.sort(descending=True, stable=True).values)
    back = mirrored(flipped, 96)
    best = int(flipped.scores.argmax())
    assert (found.boxes == back.boxes[best]).all(dim=1).any()


def test_mirroring_twice_changes_nothing() -> None:
    masks = torch.rand(2, 6, 10) > 0.5
    found = Detections(torch.tensor([[1.0, 2, 5, 6], [0, 0, 10, 4]]), torch.ones(2), torch.zeros(2), masks)
    once = mirrored(found, 10)
    assert once.boxes.tolist() == [[5, 2, 9, 6], [0, 0, 10, 4]]
    twice = mirrored(once, 10)
    assert torch.equal(twice.boxes, found.boxes)
    assert twice.masks is not None
    assert torch.equal(twice.masks, masks)


def test_views_have_their_scales_and_keep_the_output_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tta(scales=((96, 64), (48, 32), (192, 128)))
    seen: list[tuple[tuple[int, int], ...]] = []

    def detections_of(features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        del features
        assert batch.output_sizes == ((20, 30), (64, 64))
        assert batch.tensor.shape[-1] % 32 == 0
        seen.append(batch.sizes)
        nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        return [nothing, nothing]

    monkeypatch.setattr(model.detector, "detections_of", detections_of)
    with torch.no_grad():
        found = model.predict([image(), image(64, 64)], [(20, 30), (64, 64)])
    assert [len(detections) for detections in found] == [0, 0]
    assert seen == [
        view
        for view in (((64, 96), (64, 64)), ((32, 48), (32, 32)), ((128, 192), (128, 128)))
        for _ in range(2)
    ]


def test_views_of_one_object_become_one_detection() -> None:
    model = tta(scales=((96, 64), (102, 68)), nms=NMSConfig(iou_threshold=0.3), max_per_img=7)
    with torch.no_grad():
        (found,) = model.predict([image()])
    assert len(found) <= 7
    assert (found.scores[:-1] >= found.scores[1:]).all()


def test_masks_come_along() -> None:
    config = evolve(mask_rcnn_nuclei.Model(), num_classes=1)
    torch.manual_seed(0)
    model = DetTTAModelConfig(detector=config, num_classes=1, scales=((96, 64), (128, 96))).build().eval()
    with torch.no_grad():
        (found,) = model.predict([image()], [(50, 70)])
    assert found.masks is not None
    assert found.masks.shape == (len(found), 50, 70)


def test_weights_are_the_detectors_own_by_name() -> None:
    model = tta()
    assert model.state_dict().keys() == model.detector.state_dict().keys()
    other = TINY.build()
    report = put_weights(model, other.state_dict(), Path("other"))
    assert not report.missing
    assert all(
        torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.detector.state_dict().items()
    )


def test_it_learns_as_the_detector_and_can_be_judged() -> None:
    data = experiment().data
    model = tta(scales=((64, 64),))
    loader = data.val_loader()
    evaluator = CocoEvaluator(loader.source)
    plain = validate(model.detector, loader, evaluator)
    losses = validate(model, loader, evaluator)
    assert losses == pytest.approx(plain)
    assert "bbox_AP" in evaluator.compute()


def test_the_number_of_classes_reaches_the_detector() -> None:
    config = DetTTAModelConfig(detector=mask_rcnn_nuclei.Model(), num_classes=7).resolved()
    assert config.detector.num_classes == 7
    with pytest.raises(ConfigError, match=r"scales must be .* of at least 1 value"):
        DetTTAModelConfig(detector=TINY, num_classes=4, scales=()).resolved()
