"""Sizes and styles of the backbones and necks have the tensors that MMDetection's have."""

from __future__ import annotations

import pytest
from attrs import evolve

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.hrnet import HRNetConfig, wide
from detcfg.backbones.pvt import PyramidVisionTransformerConfig, PyramidVisionTransformerV2Config
from detcfg.backbones.regnet import RegNetConfig
from detcfg.backbones.resnest import ResNeStConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.backbones.resnext import ResNeXtConfig
from detcfg.backbones.swin import SwinTransformerConfig
from detcfg.detectors.base import DetectorConfig
from detcfg.experiments import faster_rcnn, hrnet, mask_rcnn, resnest, retinanet
from detcfg.layers.context_block import ContextBlockConfig
from detcfg.layers.deform_conv import DCNConfig, DCNv2Config
from detcfg.layers.plugin import PluginConfig
from detcfg.necks.fpn import FPNConfig
from tests.support.zoo import check_state_dict

STAGES = (False, True, True, True)


def gcb(ratio: float) -> tuple[PluginConfig, ...]:
    return (PluginConfig(cfg=ContextBlockConfig(ratio=ratio), position="after_conv3", stages=STAGES),)


def two(backbone: BackboneConfig) -> DetectorConfig:
    return evolve(faster_rcnn.Model(), backbone=backbone)


def mask(backbone: BackboneConfig) -> DetectorConfig:
    return evolve(mask_rcnn.Model(), backbone=backbone)


def retina(backbone: BackboneConfig) -> DetectorConfig:
    return evolve(retinanet.Model(), backbone=backbone)


V1, V2 = PyramidVisionTransformerConfig, PyramidVisionTransformerV2Config

CONFIGS: dict[str, DetectorConfig] = {
    "faster_rcnn/faster-rcnn_r101_fpn_1x_coco": two(ResNetConfig(depth=101, frozen_stages=1)),
    "faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco": two(ResNetConfig(style="caffe", frozen_stages=1)),
    "faster_rcnn/faster-rcnn_x101-64x4d_fpn_1x_coco": two(ResNeXtConfig(depth=101, groups=64)),
    "mask_rcnn/mask-rcnn_x101-32x8d_fpn_1x_coco": mask(ResNeXtConfig(depth=101, groups=32, base_width=8)),
    "retinanet/retinanet_r18_fpn_1x_coco": retina(ResNetConfig(depth=18)),
    "resnest/faster-rcnn_s101_fpn_syncbn-backbone+head_ms-range-1x_coco": evolve(
        resnest.Model(), backbone=ResNeStConfig(depth=101, stem_channels=128)
    ),
    "dcnv2/faster-rcnn_r50-mdconv-group4-c3-c5_fpn_1x_coco": two(
        ResNetConfig(dcn=DCNv2Config(deform_groups=4), stage_with_dcn=STAGES)
    ),
    "dcn/faster-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco": two(
        ResNeXtConfig(depth=101, groups=32, dcn=DCNConfig(), stage_with_dcn=STAGES)
    ),
    "gcnet/mask-rcnn_x101-32x4d-syncbn-gcb-r16-c3-c5_fpn_1x_coco": mask(
        ResNeXtConfig(depth=101, groups=32, plugins=gcb(1 / 16))
    ),
    "gcnet/mask-rcnn_r101-gcb-r4-c3-c5_fpn_1x_coco": mask(ResNetConfig(depth=101, plugins=gcb(1 / 4))),
    "hrnet/faster-rcnn_hrnetv2p-w32-1x_coco": evolve(hrnet.Model(), backbone=HRNetConfig()),
    "hrnet/faster-rcnn_hrnetv2p-w40-1x_coco": evolve(hrnet.Model(), backbone=HRNetConfig(extra=wide(40))),
    "swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco": mask(SwinTransformerConfig(depths=(2, 2, 18, 2))),
    "swin/retinanet_swin-t-p4-w7_fpn_1x_coco": evolve(
        retina(SwinTransformerConfig(out_indices=(1, 2, 3))), neck=FPNConfig(add_extra_convs="on_input")
    ),
    "pvt/retinanet_pvt-s_fpn_1x_coco": retina(V1()),
    "pvt/retinanet_pvt-m_fpn_1x_coco": retina(V1(num_layers=(3, 4, 18, 3))),
    "pvt/retinanet_pvt-l_fpn_1x_coco": retina(V1(num_layers=(3, 8, 27, 3))),
    "pvt/retinanet_pvtv2-b0_fpn_1x_coco": retina(V2(embed_dims=32, num_layers=(2, 2, 2, 2))),
    "pvt/retinanet_pvtv2-b1_fpn_1x_coco": retina(V2(num_layers=(2, 2, 2, 2))),
    "pvt/retinanet_pvtv2-b2_fpn_1x_coco": retina(V2()),
    "pvt/retinanet_pvtv2-b3_fpn_1x_coco": retina(V2(num_layers=(3, 4, 18, 3))),
    "pvt/retinanet_pvtv2-b4_fpn_1x_coco": retina(V2(num_layers=(3, 8, 27, 3))),
    "pvt/retinanet_pvtv2-b5_fpn_1x_coco": retina(V2(num_layers=(3, 6, 40, 3), mlp_ratios=(4, 4, 4, 4))),
    "regnet/mask-rcnn_regnetx-12GF_fpn_1x_coco": mask(RegNetConfig(arch="regnetx_12gf")),
    "regnet/mask-rcnn_regnetx-8GF_fpn_1x_coco": mask(RegNetConfig(arch="regnetx_8.0gf")),
    "regnet/mask-rcnn_regnetx-6.4GF_fpn_1x_coco": mask(RegNetConfig(arch="regnetx_6.4gf")),
    "regnet/mask-rcnn_regnetx-400MF_fpn_ms-poly-3x_coco": mask(RegNetConfig(arch="regnetx_400mf")),
    "regnet/mask-rcnn_regnetx-3.2GF-mdconv-c3-c5_fpn_1x_coco": mask(
        RegNetConfig(dcn=DCNv2Config(), stage_with_dcn=STAGES)
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_tensors_are_those_of_mmdetection(name: str) -> None:
    check_state_dict(f"{name}.py", CONFIGS[name])
