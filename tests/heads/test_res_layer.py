"""The stage of a ResNet that the C4 detectors apply to each roi."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import nn

from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.config import ConfigError
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.heads.bbox.convfc_bbox_head import ConvFCBBoxHeadConfig
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig
from detcfg.heads.roi.res_layer import ResLayerConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig
from detcfg.structures import Targets

TINY = FasterRCNNConfig(
    num_classes=3,
    backbone=ResNetConfig(
        depth=18, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), frozen_stages=1
    ),
    neck=None,
    rpn_head=RPNHeadConfig(
        feat_channels=16, anchor_generator=AnchorGeneratorConfig(scales=(4.0,), strides=(16,))
    ),
    roi_head=StandardRoIHeadConfig(
        bbox_roi_extractor=SingleRoIExtractorConfig(roi_layer=RoIAlignConfig(output_size=8)),
        shared_head=ResLayerConfig(depth=18),
        bbox_head=ConvFCBBoxHeadConfig(with_avg_pool=True),
        mask_head=FCNMaskHeadConfig(num_convs=0, conv_out_channels=8),
    ),
)


@pytest.mark.parametrize(("depth", "channels"), [(18, (256, 512)), (50, (1024, 2048))])
@pytest.mark.parametrize(("size", "stride", "dilation"), [(14, 2, 1), (7, 2, 1), (7, 1, 2)])
def test_the_config_knows_the_shape_of_what_comes_out(
    depth: int, channels: tuple[int, int], size: int, stride: int, dilation: int
) -> None:
    config = ResLayerConfig(
        depth=depth, in_channels=channels[0], roi_feat_size=size, stride=stride, dilation=dilation
    )
    features = config.build()(torch.randn(2, channels[0], size, size))
    assert features.shape == (2, channels[1], config.feature_size, config.feature_size)
    assert config.feature_channels == channels[1]


def test_it_is_the_stage_of_the_resnet_of_the_same_depth() -> None:
    shared = ResLayerConfig(in_channels=1024, roi_feat_size=14, style="caffe").build()
    whole = ResNetConfig(depth=50, style="caffe").build()
    stage = {name for name in whole.state_dict() if name.startswith("layer4.")}
    assert stage == set(shared.state_dict())
    shared.load_state_dict({name: whole.state_dict()[name] for name in stage})
    x = torch.randn(1, 1024, 6, 6)
    layer4 = whole.get_submodule("layer4")
    torch.testing.assert_close(shared.eval()(x), layer4.eval()(x))


@pytest.mark.parametrize("norm_eval", [True, False])
def test_batch_norms_learn_no_statistics_unless_told(norm_eval: bool) -> None:  # noqa: FBT001
    shared = ResLayerConfig(depth=18, in_channels=256, roi_feat_size=8, norm_eval=norm_eval).build().train()
    norms = [module for module in shared.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {not norm_eval} == {norm.training for norm in norms}


def test_boxes_and_masks_read_what_the_shared_head_gives() -> None:
    torch.manual_seed(0)
    model = TINY.build()
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 8:40, 8:40] = True
    target = Targets(boxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]), masks=masks)
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    losses = model.train().loss([image], [target])
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.inference_mode():
        (found,) = model.eval().predict([image])
    assert found.masks is not None
    assert found.masks.shape == (len(found), 64, 64)


def test_a_backbone_of_other_channels_is_named() -> None:
    roi_head = evolve(TINY.roi_head, shared_head=ResLayerConfig(depth=50))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"shared_head: in_channels is 256, but .* reads 1024"):
        evolve(TINY, roi_head=roi_head).build()
