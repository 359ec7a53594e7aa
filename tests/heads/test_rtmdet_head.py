"""RTMDet's heads, their assigner, backbone and neck."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import tensor
from torch.testing import assert_close

from detcfg.backbones.cspnext import CSPNeXtConfig
from detcfg.boxes.assigners.dynamic_soft_label import DynamicSoftLabelAssignerConfig, soft_label_entropy
from detcfg.config import ConfigError
from detcfg.experiments import rtmdet
from detcfg.heads.anchor_free.rtmdet_head import RTMDetHeadConfig, RTMDetSepBNHeadConfig, joined
from detcfg.layers.csp_layer import ChannelAttention
from detcfg.necks.cspnext_pafpn import CSPNeXtPAFPNConfig
from detcfg.structures import Targets
from tests.support import zoo
from tests.support.dense import SIZE, batch, built, features, objects

STRIDES = (8, 16, 32)
ONE, NONE = objects((20.0, 30.0, 100.0, 90.0)), objects()
VARIANTS: dict[str, RTMDetHeadConfig] = {
    "one for all levels": RTMDetHeadConfig(stacked_convs=2),
    "depthwise": RTMDetHeadConfig(stacked_convs=1, use_depthwise=True, with_objectness=False),
    "own norms": RTMDetSepBNHeadConfig(stacked_convs=2),
    "own layers": RTMDetSepBNHeadConfig(
        stacked_convs=2, share_conv=False, exp_on_reg=True, pred_kernel_size=3
    ),
}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize("second", [ONE, NONE], ids=["one", "none"])
@pytest.mark.parametrize("first", [ONE, NONE], ids=["one", "none"])
def test_losses_and_gradients_are_finite_whatever_the_images_hold(
    first: Targets, second: Targets, variant: str
) -> None:
    module = built(VARIANTS[variant], strides=STRIDES)
    losses = module.loss(features(strides=STRIDES), batch(), [first, second])

    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@torch.no_grad()
def test_detections_come_in_the_pixels_of_the_output(variant: str) -> None:
    module = built(VARIANTS[variant], strides=STRIDES).eval()
    plain = module.predict(features(1, strides=STRIDES), batch(1))[0]
    doubled = module.predict(features(1, strides=STRIDES), batch(1, (2 * SIZE[0], 2 * SIZE[1])))[0]

    assert_close(doubled.boxes, 2 * plain.boxes)


def test_levels_share_convolutions_or_do_not() -> None:
    shared, own = (built(VARIANTS[name], strides=STRIDES) for name in ("own norms", "own layers"))

    def convolutions(module: torch.nn.Module) -> int:
        return sum(
            "_convs." in name and name.endswith("conv.weight") for name, _ in module.named_parameters()
        )

    assert convolutions(shared) == 2 * 2
    assert convolutions(own) == 3 * 2 * 2
    with pytest.raises(ConfigError, match="share_conv and use_depthwise"):
        built(RTMDetSepBNHeadConfig(use_depthwise=True), strides=STRIDES)


def test_a_score_is_the_geometric_mean_of_class_and_objectness() -> None:
    classes, objectness = torch.randn(3, 4, 5), torch.randn(3, 1, 5)

    expected = (classes.sigmoid() * objectness.sigmoid()).sqrt()

    assert_close(joined(classes, objectness).sigmoid(), expected)


def test_the_cost_of_classes_is_the_quality_focal_loss() -> None:
    logits, labels, overlaps = 3 * torch.randn(6, 5), tensor([3, 0, 3]), torch.rand(6, 3)

    for column, label in enumerate(labels):
        target = F.one_hot(label, 5) * overlaps[:, column, None]
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        expected = (entropy * (target - logits.sigmoid()).square()).sum(1)
        assert_close(soft_label_entropy(logits, labels, overlaps)[:, column], expected)


def test_of_equal_predictions_the_nearest_to_the_centre_learn_the_object() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    priors = torch.stack((8 * x, 8 * y, 0 * x + 8, 0 * x + 8), dim=-1).reshape(-1, 4)
    box = tensor([[-1.0, -1.0, 57.0, 57.0]])
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 10:15, 38:43] = True  # its centre of mass is (40, 12)
    targets = Targets(boxes=box, labels=tensor([0]), masks=mask)

    def chosen(*, mask_centres: bool) -> list[list[float]]:
        assigner = DynamicSoftLabelAssignerConfig(topk=2, mask_centres=mask_centres)
        found = assigner.assign(priors, box.expand(64, 4), torch.zeros(64, 1), targets)
        return priors[found.gt_indices == 0, :2].tolist()

    assert [24.0, 24.0] in chosen(mask_centres=False) or [32.0, 32.0] in chosen(mask_centres=False)
    assert chosen(mask_centres=True) == [[40.0, 8.0], [40.0, 16.0]]


def test_attention_weighs_channels_by_their_means() -> None:
    layer = ChannelAttention(3)
    x = torch.randn(2, 3, 4, 5)

    weight = F.hardsigmoid(x.mean((2, 3)) @ layer.fc.weight[:, :, 0, 0].T + layer.fc.bias)

    assert_close(layer(x), x * weight[:, :, None, None])


@pytest.mark.parametrize(
    ("mmdet_config", "backbone", "blocks"),
    [
        ("rtmdet_s_8xb32-300e_coco", {"deepen_factor": 0.33, "widen_factor": 0.5}, 1),
        ("rtmdet_l_8xb32-300e_coco", {}, 3),
        (
            "rtmdet_x_p6_4xb8-300e_coco",
            {"arch": "P6", "deepen_factor": 1.33, "widen_factor": 1.25, "out_indices": (2, 3, 4, 5)},
            4,
        ),
    ],
)
def test_the_sizes_have_mmdetections_parameters(
    mmdet_config: str, backbone: dict[str, Any], blocks: int
) -> None:
    width = int(256 * backbone.get("widen_factor", 1))
    model = rtmdet.Model(
        backbone=CSPNeXtConfig(**backbone),
        neck=CSPNeXtPAFPNConfig(out_channels=width, num_csp_blocks=blocks),
        bbox_head=RTMDetSepBNHeadConfig(feat_channels=width, stacked_convs=2, with_objectness=False),
    )
    zoo.check_state_dict(f"rtmdet/{mmdet_config}.py", model)
