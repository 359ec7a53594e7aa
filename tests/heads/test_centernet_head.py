"""CenterNet's head and neck."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.iou import bbox_overlaps
from detcfg.config import ConfigError
from detcfg.experiments import centernet_r18, retinanet
from detcfg.heads.anchor_free.centernet_head import CenterNetHead, CenterNetHeadConfig
from detcfg.heads.anchor_free.heatmap import draw_gaussians, gaussian_radius, peaks
from detcfg.necks.ct_resnet_neck import CTResNetNeckConfig, init_bilinear
from detcfg.structures import Detections, Targets
from tests.support import zoo
from tests.support.dense import CLASSES, SIZE, batch, built, features, objects

side = st.floats(2, 300)


@given(side, side, st.sampled_from([0.3, 0.5, 0.7]))
def test_corners_may_move_by_the_radius_and_no_further(width: float, height: float, overlap: float) -> None:
    radius = float(gaussian_radius(tensor([[height, width]]), overlap))
    box = tensor([[0.0, 0.0, width, height]])

    def least(r: float) -> float:
        moves = [(r, r, r, r), (r, r, -r, -r), (-r, -r, r, r)]
        moved = torch.cat([box + tensor(move) for move in moves])
        return float(bbox_overlaps(moved, box).min())

    assert least(radius) == pytest.approx(overlap, abs=1e-3)
    assert least(0.9 * radius) > overlap


def test_heat_is_one_at_a_centre_and_ends_at_its_radius() -> None:
    heat = draw_gaussians(tensor([[4, 3], [5, 3]]), tensor([2, 1]), tensor([1, 0]), 2, (8, 10))

    assert heat[1, 3, 4] == 1
    assert_close(heat[1, 3, 5], tensor(-1 / (2 * (5 / 6) ** 2)).exp())
    assert heat[1].nonzero().amin(0).tolist() == [1, 2]
    assert heat[1].nonzero().amax(0).tolist() == [5, 6]
    assert heat[0].nonzero().amin(0).tolist() == [2, 4]


def test_where_objects_of_a_class_overlap_the_hotter_counts() -> None:
    places, radii = tensor([[3, 3], [5, 3]]), tensor([3, 3])
    both = draw_gaussians(places, radii, tensor([0, 0]), 1, (7, 9))
    each = draw_gaussians(places, radii, tensor([0, 1]), 2, (7, 9))

    assert_close(both[0], each.amax(0))


def test_peaks_are_hotter_than_their_neighbours() -> None:
    heat = tensor([[0.1, 0.5, 0.4], [0.2, 0.3, 0.2], [0.9, 0.1, 0.6]])[None, None]

    assert peaks(heat, 3).nonzero()[:, 2:].tolist() == [[0, 1], [2, 0], [2, 2]]


def head(topk: int = 100) -> CenterNetHead:
    made = built(CenterNetHeadConfig(), strides=(4,))
    assert isinstance(made, CenterNetHead)
    made.test_cfg = made.test_cfg.__class__(topk=topk)
    return made


def test_predicting_the_targets_gives_the_objects_as_detections(monkeypatch: pytest.MonkeyPatch) -> None:
    module, images = head(topk=2).eval(), batch(1)
    targets = objects((21.0, 30.0, 101.0, 91.0), (110.0, 42.0, 181.0, 121.0))
    maps = torch.zeros(1, CLASSES, SIZE[0] // 4, SIZE[1] // 4)
    centre_targets = module.image_targets(targets, maps, images)
    sizes, offsets = torch.zeros(2, 1, 2, maps.shape[2] * maps.shape[3])
    sizes[0, :, centre_targets.cells], offsets[0, :, centre_targets.cells] = (
        centre_targets.sizes.T,
        centre_targets.offsets.T,
    )
    perfect = (
        centre_targets.heat[None],
        sizes.view(1, 2, *maps.shape[2:]),
        offsets.view(1, 2, *maps.shape[2:]),
    )
    monkeypatch.setattr(module, "forward", lambda _: perfect)

    found: Detections = module.predict((), images)[0]

    order = found.labels.argsort()
    assert found.labels[order].tolist() == [0, 1]
    assert_close(found.boxes[order], targets.boxes)
    losses = module.loss((), images, [targets])
    assert float(losses["loss_wh"]) == 0
    assert float(losses["loss_offset"]) == 0


@pytest.mark.parametrize("second", [objects((20.0, 30.0, 100.0, 90.0)), objects()], ids=["one", "none"])
@pytest.mark.parametrize("first", [objects((20.0, 30.0, 192.0, 128.0)), objects()], ids=["one", "none"])
def test_losses_and_gradients_are_finite_whatever_the_images_hold(first: Targets, second: Targets) -> None:
    module = head()
    losses = module.loss(features(strides=(4,)), batch(), [first, second])

    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_transposed_convolutions_start_as_bilinear_enlargement() -> None:
    conv = torch.nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    init_bilinear(conv)
    x = torch.arange(6.0).expand(1, 1, 6, 6)

    assert_close(conv(x)[0, 0, 4, 3:9], tensor([1.25, 1.75, 2.25, 2.75, 3.25, 3.75]))


def test_the_neck_enlarges_the_last_map() -> None:
    config = CTResNetNeckConfig(
        in_channels=(8, 16),
        in_strides=(16, 32),
        num_deconv_filters=(8, 4),
        num_deconv_kernels=(4, 4),
        use_dcn=False,
    )
    (out,) = config.build()((torch.zeros(2, 8, 6, 8), torch.randn(2, 16, 3, 4)))

    assert out.shape == (2, 4, 12, 16)
    assert (config.feature_channels, config.feature_strides) == ((4,), (8,))


def test_contradictions_are_refused() -> None:
    with pytest.raises(ConfigError, match="CenterNet reads one level"):
        retinanet.Model(num_classes=3, bbox_head=CenterNetHeadConfig()).resolved()
    with pytest.raises(ConfigError, match="differ in length"):
        centernet_r18.Model(num_classes=3, neck=CTResNetNeckConfig(num_deconv_kernels=(4, 4))).resolved()


@pytest.mark.parametrize(("name", "use_dcn"), [("r18", False), ("r18-dcnv2", True)])
def test_the_parameters_are_mmdetections(name: str, *, use_dcn: bool) -> None:
    model = centernet_r18.Model(backbone=ResNetConfig(depth=18), neck=CTResNetNeckConfig(use_dcn=use_dcn))
    zoo.check_state_dict(f"centernet/centernet_{name}_8xb16-crop512-140e_coco.py", model)
