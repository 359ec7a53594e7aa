"""torchvision's detectors and detcfg's with the same weights find the same objects."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import detection

from detcfg.config import Config
from detcfg.detectors.base import Detector, DetectorConfig
from detcfg.errors import DetcfgError
from detcfg.interop.torchvision.models import DETECTORS, detector_config
from detcfg.interop.torchvision.preprocess import ResizingPreprocessorConfig
from detcfg.interop.torchvision.weights import COCO_LABELS, convert
from detcfg.structures import Detections

SIZE = {"min_size": 192, "max_size": 320}
PROPOSALS = 200
"""Of an image, in both: the heads of the second versions are four convolutions a proposal."""
CLASSES = 11
"""Of torchvision, with background."""
SURENESS = {
    "retinanet_resnet50_fpn": 20.0,
    "fasterrcnn_resnet50_fpn": 60.0,
    "maskrcnn_resnet50_fpn": 60.0,
    "fasterrcnn_resnet50_fpn_v2": 10.0,
    "maskrcnn_resnet50_fpn_v2": 10.0,
}
"""What the weights of the last layer are multiplied by, so that scores spread."""


def is_dense(name: str) -> bool:
    return name.startswith(("retinanet", "fcos"))


def torchvisions(name: str) -> nn.Module:
    torch.manual_seed(0)
    fewer = {} if is_dense(name) else {"rpn_post_nms_top_n_test": PROPOSALS}
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=CLASSES, **SIZE, **fewer
    )
    sureness = SURENESS.get(name, 1.5)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if (
                re.search(r"head\.(cls_logits|bbox_ctrness)\.weight|cls_score\.weight", key)
                and "rpn" not in key
            ):
                parameter.mul_(sureness)
            if key.endswith("classification_head.cls_logits.bias"):
                parameter.fill_(-1.0)
            if "bn3.weight" in key:
                parameter.mul_(0.3)
            if key.endswith("mask_fcn_logits.weight"):
                parameter.mul_(3)
    return model.eval()  # type: ignore[no-any-return]


def detcfgs(name: str, state: dict[str, Tensor], labels: tuple[int, ...] | None = None) -> Detector:
    config: Any = detector_config(name)
    classes = len(labels) if labels else CLASSES if is_dense(name) else CLASSES - 1
    made: DetectorConfig = evolve(
        config, num_classes=classes, data_preprocessor=ResizingPreprocessorConfig(**SIZE)
    )
    if not is_dense(name):
        rpn_head = evolve(config.rpn_head, test_cfg=evolve(config.rpn_head.test_cfg, max_per_img=PROPOSALS))
        made = evolve(made, rpn_head=rpn_head)
    model = made.build()
    model.load_state_dict(convert(state, labels))
    return model.eval()


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(150, 230), (260, 170)]
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


@torch.no_grad()
def found_by(model: nn.Module, pictures: list[Tensor]) -> list[Detections]:
    if isinstance(model, Detector):
        return model.predict(pictures)
    return [
        Detections(
            boxes=image["boxes"],
            scores=image["scores"],
            labels=image["labels"],
            masks=image["masks"][:, 0] >= 0.5 if "masks" in image else None,
        )
        for image in model([picture / 255 for picture in pictures])
    ]


def counterparts(own: Detections, wanted: Detections) -> Detections:
    """`own` in the order of `wanted`: scores that tie may come in either order."""
    cost = (own.boxes - wanted.boxes[:, None]).abs().amax(-1)
    cost += 1e3 * (own.scores - wanted.scores[:, None]).abs() + 1e3 * (own.labels != wanted.labels[:, None])
    return own[cost.argmin(dim=1)]


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_both_find_the_same_objects(name: str) -> None:
    theirs = torchvisions(name)
    ours = detcfgs(name, theirs.state_dict())

    first = 0 if is_dense(name) else 1
    for own, wanted in zip(found_by(ours, images()), found_by(theirs, images()), strict=True):
        assert len(own) == len(wanted) > 20
        shifted = evolve(wanted, labels=wanted.labels - first)
        own = counterparts(own, shifted)  # noqa: PLW2901
        assert own.labels.equal(shifted.labels)
        assert_close(own.scores, wanted.scores, rtol=0, atol=1e-3)
        assert_close(own.boxes, wanted.boxes, rtol=0, atol=1e-3)
        if wanted.masks is not None:
            assert own.masks is not None
            assert (own.masks != wanted.masks).float().mean() < 1e-5


def older(name: str, key: str) -> str:
    """The name that published files of the first versions have."""
    key = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", key)
    key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    key = re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", key)
    if name.startswith("retinanet"):
        key = re.sub(r"_head\.conv\.(\d)\.0\.", lambda m: f"_head.conv.{2 * int(m[1])}.", key)
    return key


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "maskrcnn_resnet50_fpn"])
def test_published_files_have_older_names_and_no_counters(name: str) -> None:
    with torch.device("meta"):
        state = getattr(detection, name)(weights=None, weights_backbone=None).state_dict()
    published = {older(name, k): v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert published.keys() - state.keys()

    new, old = convert(state), convert(published)

    assert old.keys() == new.keys()
    assert all(old[key].shape == new[key].shape for key in new)


def test_the_chosen_labels_are_the_classes() -> None:
    name = "retinanet_resnet50_fpn"
    theirs = torchvisions(name)
    whole, part = detcfgs(name, theirs.state_dict()), detcfgs(name, theirs.state_dict(), (7, 3))
    batch = whole.data_preprocessor(images())

    with torch.no_grad():
        features = whole.extract_features(batch.tensor)
        every, chosen = (m.bbox_head(features)[0][0] for m in (whole, part))  # type: ignore[operator, union-attr]

    every, chosen = every.unflatten(1, (9, CLASSES)), chosen.unflatten(1, (9, 2))
    assert_close(chosen, every[:, :, [7, 3]])


def test_cocos_labels_are_those_with_a_name() -> None:
    categories = detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]

    assert len(COCO_LABELS) == 80
    assert [i for i, n in enumerate(categories) if n not in {"N/A", "__background__"}] == list(COCO_LABELS)


def test_the_first_published_weights_are_for_norms_without_an_epsilon() -> None:
    def eps(config: Config) -> float:
        return config.backbone.norm_cfg.eps  # type: ignore[attr-defined, no-any-return]

    assert eps(detector_config("fasterrcnn_resnet50_fpn", published=True)) == 0
    assert eps(detector_config("fasterrcnn_resnet50_fpn_v2", published=True)) == 1e-5


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(DetcfgError, match=r"'fc\.weight' is of no RetinaNet"):
        convert({"fc.weight": torch.zeros(1)})
    with pytest.raises(DetcfgError, match="Did you mean 'fcos_resnet50_fpn'"):
        detector_config("fcos_resnet50")
