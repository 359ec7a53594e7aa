"""What a head reads is what the neck before it gives."""

from __future__ import annotations

import pytest
from attrs import frozen

from detcfg.backbones.resnet import ResNetConfig
from detcfg.config import ConfigError, derived
from detcfg.detectors.rpn import RPNConfig
from detcfg.detectors.single_stage import SingleStageDetectorConfig
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.necks.base import Neck, NeckConfig
from detcfg.necks.fpn import FPNConfig


@frozen(kw_only=True)
class GivesConfig(NeckConfig):
    """Feature maps of any widths."""

    widths: tuple[int, ...] = (8, 16)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.widths

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(8 * 2**level for level in range(len(self.widths)))

    def build(self) -> Neck:
        return Neck()


@frozen(kw_only=True)
class ReadsEachConfig(DenseHeadConfig):
    """A head with other layers for each level."""

    in_channels: tuple[int, ...] = derived()

    def build(self) -> DenseHead:
        return DenseHead()


def wired_head(head: DenseHeadConfig, widths: tuple[int, ...]) -> DenseHeadConfig:
    """The head as a detector wires it to a neck of such maps."""
    neck = GivesConfig(widths=widths)
    return SingleStageDetectorConfig(backbone=ResNetConfig(), neck=neck, bbox_head=head).wired().bbox_head


@pytest.mark.parametrize("widths", [(8, 16), (8, 8)])
def test_a_head_that_reads_each_width_is_told_all_of_them(widths: tuple[int, ...]) -> None:
    head = wired_head(ReadsEachConfig(), widths)
    assert head.in_channels == widths
    assert head.in_strides == (8, 16)


def test_a_head_that_reads_one_width_is_told_that_one() -> None:
    assert wired_head(RetinaHeadConfig(), (8, 8)).in_channels == 8


def test_a_head_that_reads_one_width_refuses_several() -> None:
    with pytest.raises(
        ConfigError, match=r"neck\.feature_channels is \(8, 16\), but bbox_head\.in_channels is one number"
    ):
        wired_head(RetinaHeadConfig(), (8, 16))


def test_without_a_neck_a_head_reads_the_backbone() -> None:
    detector = SingleStageDetectorConfig(
        num_classes=3, backbone=ResNetConfig(depth=18, base_channels=8), bbox_head=ReadsEachConfig()
    ).wired()
    assert (detector.bbox_head.in_channels, detector.bbox_head.in_strides) == (
        (8, 16, 32, 64),
        (4, 8, 16, 32),
    )
    assert detector.bbox_head.num_classes == 3


def test_an_rpn_needs_no_number_of_classes() -> None:
    alone = RPNConfig(backbone=ResNetConfig(), neck=FPNConfig()).resolved()
    with_data = RPNConfig(backbone=ResNetConfig(), neck=FPNConfig(), num_classes=80).resolved()
    assert (alone.num_classes, with_data.num_classes) == (1, 80)
    assert alone.rpn_head == with_data.rpn_head
    assert alone.rpn_head.in_channels == 256
