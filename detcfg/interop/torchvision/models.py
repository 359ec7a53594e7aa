"""torchvision's detectors with a ResNet-50 and a feature pyramid, as configs.

They differ from MMDetection's in anchors (whole pixels, spread over the image), RoIAlign (corners rather
than centres of pixels, two samples a cell), how scores are chosen and where images are resized.
Follow torchvision/models/detection/{retinanet,fcos,faster_rcnn,mask_rcnn}.py. `_v2` are the ones of
Li et al., 2021, https://arxiv.org/abs/2111.11429.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.resnet import ResNetConfig
from detcfg.boxes.anchors.stretched import StretchedAnchorGeneratorConfig, StretchedPointGeneratorConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.config import did_you_mean
from detcfg.detectors.base import DetDataPreprocessorConfig, DetectorConfig
from detcfg.detectors.faster_rcnn import FasterRCNNConfig
from detcfg.detectors.mask_rcnn import ROI_HEAD, MaskRCNNConfig
from detcfg.detectors.single_stage import SingleStageDetectorConfig
from detcfg.errors import DetcfgError
from detcfg.heads.anchor_based.retina_head import RetinaHeadConfig
from detcfg.heads.anchor_free.fcos_head import FCOSHeadConfig
from detcfg.heads.bbox.bbox_head import BBoxHeadConfig
from detcfg.heads.bbox.convfc_bbox_head import Shared2FCBBoxHeadConfig, Shared4Conv1FCBBoxHeadConfig
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.proposal.base import ProposalHeadConfig
from detcfg.heads.proposal.rpn_head import RPNHeadConfig, RPNTestConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.common import RoITestConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig
from detcfg.interop.torchvision.mask_head import WholePixelMaskHeadConfig
from detcfg.interop.torchvision.preprocess import ResizingPreprocessorConfig
from detcfg.layers.norm import BNConfig, GNConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.necks.base import NeckConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.roi_extractors.base import RoIAlignConfig
from detcfg.roi_extractors.single_level import SingleRoIExtractorConfig

CODER: Final = DeltaXYWHBBoxCoderConfig(bound_shrinking=False)
BACKBONE: Final = ResNetConfig(depth=50, frozen_stages=1)
FROM_OUTPUT: Final = FPNConfig(start_level=1, add_extra_convs="on_output", relu_before_extra_convs=True)
THIRDS: Final = ((32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812))
"""RetinaNet's anchors: three to each octave, in whole pixels."""


@frozen(kw_only=True)
class RetinaNetConfig(SingleStageDetectorConfig):
    """`retinanet_resnet50_fpn`."""

    data_preprocessor: DetDataPreprocessorConfig = ResizingPreprocessorConfig()
    """Normalises and pads the images on the device."""
    backbone: BackboneConfig = BACKBONE
    """Image to feature maps."""
    neck: NeckConfig | None = FROM_OUTPUT
    """Feature maps to feature maps; None: the heads read the backbone's."""
    bbox_head: DenseHeadConfig = RetinaHeadConfig(
        anchor_generator=StretchedAnchorGeneratorConfig(sizes=THIRDS),
        bbox_coder=CODER,
        test_cfg=DenseTestConfig(min_bbox_size=-1, max_per_img=300),
    )
    """The head that classifies and refines boxes."""


@frozen(kw_only=True)
class RetinaNetV2Config(RetinaNetConfig):
    """`retinanet_resnet50_fpn_v2`."""

    neck: NeckConfig | None = FPNConfig(
        start_level=1, add_extra_convs="on_input", relu_before_extra_convs=True
    )
    """Feature maps to feature maps; None: the heads read the backbone's."""
    bbox_head: DenseHeadConfig = RetinaHeadConfig(
        norm_cfg=GNConfig(),
        anchor_generator=StretchedAnchorGeneratorConfig(sizes=THIRDS),
        bbox_coder=CODER,
        reg_decoded_bbox=True,
        loss_bbox=GIoULossConfig(),
        test_cfg=DenseTestConfig(min_bbox_size=-1, max_per_img=300),
    )
    """The head that classifies and refines boxes."""


@frozen(kw_only=True)
class FCOSConfig(SingleStageDetectorConfig):
    """`fcos_resnet50_fpn`."""

    data_preprocessor: DetDataPreprocessorConfig = ResizingPreprocessorConfig()
    """Normalises and pads the images on the device."""
    backbone: BackboneConfig = BACKBONE
    """Image to feature maps."""
    neck: NeckConfig | None = FROM_OUTPUT
    """Feature maps to feature maps; None: the heads read the backbone's."""
    bbox_head: DenseHeadConfig = FCOSHeadConfig(
        prior_generator=StretchedPointGeneratorConfig(),
        center_sampling=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        conv_bias=True,
        loss_bbox=GIoULossConfig(),
        test_cfg=DenseTestConfig(
            min_bbox_size=-1, score_thr=0.2, geometric_scores=True, nms=NMSConfig(iou_threshold=0.6)
        ),
    )
    """The head that classifies and refines boxes."""


RPN: Final = RPNHeadConfig(
    anchor_generator=StretchedAnchorGeneratorConfig(sizes=((32,), (64,), (128,), (256,), (512,))),
    bbox_coder=CODER,
    loss_bbox=SmoothL1LossConfig(beta=1 / 9),
    rpn_proposal=RPNTestConfig(nms_pre=2000, max_per_img=2000, min_bbox_size=1e-3),
    test_cfg=RPNTestConfig(nms_pre=1000, min_bbox_size=1e-3),
)
TWO_LAYERS: Final = Shared2FCBBoxHeadConfig(
    bbox_coder=DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2), bound_shrinking=False),
    loss_bbox=SmoothL1LossConfig(beta=1 / 9),
)
CONVOLUTIONS: Final = Shared4Conv1FCBBoxHeadConfig(
    norm_cfg=BNConfig(), bbox_coder=TWO_LAYERS.bbox_coder, loss_bbox=TWO_LAYERS.loss_bbox
)


def _extractor(side: int) -> SingleRoIExtractorConfig:
    """MultiScaleRoIAlign with its defaults."""
    return SingleRoIExtractorConfig(
        roi_layer=RoIAlignConfig(output_size=side, sampling_ratio=2, aligned=False)
    )


def _roi_head(bbox_head: BBoxHeadConfig) -> StandardRoIHeadConfig:
    return StandardRoIHeadConfig(
        bbox_roi_extractor=_extractor(7),
        bbox_head=bbox_head,
        test_cfg=RoITestConfig(min_bbox_size=1e-2),
    )


def _masked(roi_head: StandardRoIHeadConfig, mask_head: WholePixelMaskHeadConfig) -> StandardRoIHeadConfig:
    return evolve(
        roi_head, mask_roi_extractor=_extractor(14), mask_head=mask_head, assigner=ROI_HEAD.assigner
    )


@frozen(kw_only=True)
class FasterRCNNResNet50Config(FasterRCNNConfig):
    """`fasterrcnn_resnet50_fpn`."""

    data_preprocessor: DetDataPreprocessorConfig = ResizingPreprocessorConfig()
    """Normalises and pads the images on the device."""
    backbone: BackboneConfig = BACKBONE
    """Image to feature maps."""
    rpn_head: ProposalHeadConfig = RPN
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig = _roi_head(TWO_LAYERS)
    """Feature maps and proposals to detections."""


@frozen(kw_only=True)
class FasterRCNNResNet50V2Config(FasterRCNNResNet50Config):
    """`fasterrcnn_resnet50_fpn_v2`."""

    neck: NeckConfig | None = FPNConfig(norm_cfg=BNConfig())
    """Feature maps to feature maps; None: the heads read the backbone's."""
    rpn_head: ProposalHeadConfig = evolve(RPN, num_convs=2)
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig = _roi_head(CONVOLUTIONS)
    """Feature maps and proposals to detections."""


@frozen(kw_only=True)
class MaskRCNNResNet50Config(MaskRCNNConfig):
    """`maskrcnn_resnet50_fpn`."""

    data_preprocessor: DetDataPreprocessorConfig = ResizingPreprocessorConfig()
    """Normalises and pads the images on the device."""
    backbone: BackboneConfig = BACKBONE
    """Image to feature maps."""
    rpn_head: ProposalHeadConfig = RPN
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig = _masked(_roi_head(TWO_LAYERS), WholePixelMaskHeadConfig())
    """Feature maps and proposals to detections."""


@frozen(kw_only=True)
class MaskRCNNResNet50V2Config(MaskRCNNResNet50Config):
    """`maskrcnn_resnet50_fpn_v2`."""

    neck: NeckConfig | None = FPNConfig(norm_cfg=BNConfig())
    """Feature maps to feature maps; None: the heads read the backbone's."""
    rpn_head: ProposalHeadConfig = evolve(RPN, num_convs=2)
    """Feature maps to proposals."""
    roi_head: RoIHeadConfig = _masked(_roi_head(CONVOLUTIONS), WholePixelMaskHeadConfig(norm_cfg=BNConfig()))
    """Feature maps and proposals to detections."""


DETECTORS: Final[dict[str, DetectorConfig]] = {
    "retinanet_resnet50_fpn": RetinaNetConfig(),
    "retinanet_resnet50_fpn_v2": RetinaNetV2Config(),
    "fcos_resnet50_fpn": FCOSConfig(),
    "fasterrcnn_resnet50_fpn": FasterRCNNResNet50Config(),
    "fasterrcnn_resnet50_fpn_v2": FasterRCNNResNet50V2Config(),
    "maskrcnn_resnet50_fpn": MaskRCNNResNet50Config(),
    "maskrcnn_resnet50_fpn_v2": MaskRCNNResNet50V2Config(),
}
"""By torchvision's names."""

WITHOUT_EPS: Final = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn")
"""Those whose published weights, `COCO_V1`, are for batch norms without an epsilon."""


def detector_config(name: str, *, published: bool = False) -> DetectorConfig:
    """A detector of torchvision.

    Args:
        name: torchvision's.
        published: For its published weights, rather than for any that were trained with it.

    Raises:
        DetcfgError: There is no such detector here.
    """
    if name not in DETECTORS:
        raise DetcfgError(
            f"There is no detector {name!r} of torchvision here. {did_you_mean(name, DETECTORS)}"
        )
    config = DETECTORS[name]
    if published and name in WITHOUT_EPS:
        backbone = evolve(BACKBONE, norm_cfg=BNConfig(eps=0.0))
        return evolve(config, backbone=backbone)  # type: ignore[call-arg]
    return config
