"""The region proposal network.

Shapes: B images; features are (B, C, H_i, W_i); a anchors at each place, n_i of level i.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from attrs import evolve, field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig, choose_detections
from detcfg.heads.dense.levels import flatten_level
from detcfg.heads.proposal.base import ProposalHead, ProposalHeadConfig, as_one_class
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import normal_init
from detcfg.layers.neighbourhoods import conv_at
from detcfg.losses.base import LossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.precision import in_full_precision
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class RPNTestConfig(DenseTestConfig):
    """How proposals are chosen."""

    score_thr: float = 0.0
    """Not used: proposals go by rank."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.7)
    """How the proposals of a level are thinned out."""
    max_per_img: int = 1000
    """At most so many for an image."""


@frozen(kw_only=True)
class RPNHeadConfig(AnchorHeadConfig, ProposalHeadConfig):
    """Region proposal network (Ren et al., 2015, https://arxiv.org/abs/1506.01497).

    Follows mmdet/models/dense_heads/rpn_head.py.
    """

    num_convs: int = field(default=1, validator=validators.ge(1))
    """3x3 convolutions before the two predictions."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(scales=(8.0,))
    """The anchors of each level; its strides must be those of the feature maps."""
    loss_bbox: LossConfig = L1LossConfig()
    """The loss of the boxes."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    """Which priors learn which object."""
    sampler: SamplerConfig = RandomSamplerConfig(num=256, pos_fraction=0.5, add_gt_as_proposals=False)
    """Which of the assigned priors are learnt from."""
    rpn_proposal: RPNTestConfig = RPNTestConfig(nms_pre=2000)
    """How proposals are chosen in training."""
    test_cfg: RPNTestConfig = RPNTestConfig()
    """How proposals are chosen in testing."""

    def build(self) -> RPNHead:
        return RPNHead(self.resolved())


class RPNHead(AnchorHead, ProposalHead):
    """Says of each anchor whether it is an object, and where."""

    def __init__(self, config: RPNHeadConfig) -> None:
        super().__init__(config)
        self.rpn_test_cfg = config.test_cfg
        self.most_sampled = config.sampler.num if isinstance(config.sampler, RandomSamplerConfig) else None
        self.rpn_proposal = config.rpn_proposal
        self.rpn_conv = self._convs(config)
        self.rpn_cls = nn.Conv2d(config.feat_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.rpn_reg = nn.Conv2d(config.feat_channels, self.num_base_priors * self.bbox_coder.encode_size, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)

    def _convs(self, config: RPNHeadConfig) -> nn.Module:
        """One plain convolution, or several with activations, as MMDetection names them."""
        if config.num_convs == 1:
            return nn.Conv2d(config.in_channels, config.feat_channels, 3, padding=1)
        widths = (config.in_channels,) + (config.feat_channels,) * (config.num_convs - 1)
        return nn.Sequential(*(ConvModule(width, config.feat_channels, 3, padding=1) for width in widths))

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        hidden = F.relu(self.rpn_conv(feature))
        return in_full_precision(self.rpn_cls, hidden), in_full_precision(self.rpn_reg, hidden)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        losses = super().losses(predictions, batch, as_one_class(targets))
        return {"loss_rpn_cls": losses["loss_cls"], "loss_rpn_bbox": losses["loss_bbox"]}

    def loss_and_proposals(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        few = self.uses_sparse_backward(features)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not few):
            predictions = self(features)
        losses = (
            self.sparse_losses(features, predictions, batch, targets)
            if few
            else self.losses(predictions, batch, targets)
        )
        return losses, self.choose_proposals(predictions, batch, self.rpn_proposal)

    def uses_sparse_backward(self, features: Sequence[Tensor]) -> bool:
        """Whether so few places are learnt from that it saves work to go back from those alone."""
        if type(self) is not RPNHead or self.most_sampled is None:  # a subclass may compute something else
            return False
        plain = type(self.rpn_conv) is nn.Conv2d
        places = sum(feature[0, 0].numel() for feature in features)
        by_level = self.loss_cls.by_level or self.loss_bbox.by_level
        return plain and not by_level and 9 * self.most_sampled <= places

    def sparse_losses(
        self,
        features: tuple[Tensor, ...],
        predictions: tuple[tuple[Tensor, ...], ...],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        """`losses`, with the predictions of the sampled anchors made again for their gradient.

        The others weigh nothing, so every gradient is the same. It saves the backward pass of the
        convolutions over whole maps, and the memory of what they would keep for it.
        """
        anchors = self.anchors(predictions[0])
        learnt = self.targets(anchors, predictions[0], batch, as_one_class(targets))
        images, chosen = learnt.sampled()
        hidden = self._hidden_at(features, images, chosen // self.num_base_priors)
        a = self.num_base_priors
        one = torch.arange(len(chosen), device=chosen.device), chosen % a
        scores, codes = (
            torch.unflatten(in_full_precision(layer, hidden[:, :, None, None]).flatten(1), 1, (a, -1))[one]
            for layer in (self.rpn_cls, self.rpn_reg)
        )
        if self.reg_decoded_bbox:
            codes = self.bbox_coder.decode(torch.cat(list(anchors))[chosen], codes)
        at = images, chosen
        factor = learnt.avg_factor
        loss_cls = self.loss_cls(scores, learnt.labels[at], learnt.label_weights[at], avg_factor=factor)
        loss_bbox = self.loss_bbox(codes, learnt.bbox_targets[at], learnt.bbox_weights[at], avg_factor=factor)
        return {"loss_rpn_cls": loss_cls, "loss_rpn_bbox": loss_bbox}

    def _hidden_at(self, features: tuple[Tensor, ...], images: Tensor, places: Tensor) -> Tensor:
        """The hidden layer (n, C) at places (n,) that ascend over all levels."""
        assert isinstance(self.rpn_conv, nn.Conv2d)
        sizes = [feature[0, 0].numel() for feature in features]
        starts = [sum(sizes[:level]) for level in range(len(sizes))]
        levels = torch.bucketize(places, torch.tensor(starts[1:], device=places.device), right=True)
        counts = [int(count) for count in torch.bincount(levels, minlength=len(sizes)).cpu()]
        parts = zip(features, torch.split(images, counts), torch.split(places, counts), starts, strict=True)
        return F.relu(
            torch.cat([conv_at(self.rpn_conv, x, image, at - start) for x, image, at, start in parts])
        )

    def proposals(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.choose_proposals(self(features), batch, self.rpn_test_cfg)

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        return self.choose_proposals(predictions, batch, self.rpn_test_cfg, rescale=True)

    @torch.no_grad()
    def choose_proposals(
        self,
        predictions: tuple[tuple[Tensor, ...], ...],
        batch: ImageBatch,
        test_cfg: RPNTestConfig,
        own_anchors: Sequence[Tensor] | None = None,
        *,
        rescale: bool = False,
    ) -> list[Detections]:
        """The proposals of each image, from anchors (B, n_i, 4) that are its own or all's.

        They are in network pixels, or in output pixels if `rescale`, and so is `min_bbox_size`. The best of
        all levels are decoded together, and one call of NMS an image goes over all levels, of which each is
        a group of its own.
        """
        cls_scores, bbox_preds = predictions[:2]
        scores: list[Tensor] = []
        codes: list[Tensor] = []
        anchors: list[Tensor] = []
        levels: list[Tensor] = []
        for level, priors in enumerate(own_anchors or self.anchors(cls_scores)):
            score = self.probabilities(flatten_level(cls_scores[level], self.cls_out_channels).float())
            code = flatten_level(bbox_preds[level], self.bbox_coder.encode_size).float()
            score = score.squeeze(-1)
            best = torch.arange(score.shape[1], device=score.device).expand_as(score)
            if (
                0 < test_cfg.nms_pre < priors.shape[-2]
            ):  # else NMS meets ties in another order than MMDetection's
                score, best = score.sort(dim=1, descending=True)
                score, best = score[:, : test_cfg.nms_pre], best[:, : test_cfg.nms_pre]
            scores.append(score)
            codes.append(code.gather(1, best[..., None].expand(-1, -1, code.shape[-1])))
            anchors.append(priors.expand(len(score), -1, -1).gather(1, best[..., None].expand(-1, -1, 4)))
            levels.append(torch.full_like(best, level))
        all_scores, all_levels = torch.cat(scores, dim=1), torch.cat(levels, dim=1)
        all_codes, all_anchors = torch.cat(codes, dim=1), torch.cat(anchors, dim=1)
        return [
            _of_one_class(
                choose_detections(
                    self.bbox_coder.decode(all_anchors[image], all_codes[image], max_shape=size),
                    all_scores[image],
                    all_levels[image],
                    test_cfg=test_cfg,
                    scales=batch.scales(image) if rescale else (1.0, 1.0),
                )
            )
            for image, size in enumerate(batch.sizes)
        ]


def _of_one_class(found: Detections) -> Detections:
    return evolve(found, labels=torch.zeros_like(found.labels))
