"""torchvision's weights under detcfg's names.

Shapes: C classes of torchvision, of which the first is background; a anchors at each location.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from detcfg.errors import DetcfgError

COCO_LABELS: Final = tuple(
    label for label in range(1, 91) if label not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
)
"""torchvision's labels of COCO's 80 classes, in their order; the others have no name."""

NAMES: Final = (
    (r"backbone\.body\.(.*)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:0\.)?(weight|bias)", r"neck.lateral_convs.\1.conv.\2"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.1\.(.*)", r"neck.lateral_convs.\1.bn.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:0\.)?(weight|bias)", r"neck.fpn_convs.\1.conv.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.1\.(.*)", r"neck.fpn_convs.\1.bn.\2"),
    (r"backbone\.fpn\.extra_blocks\.p6\.(.*)", r"neck.fpn_convs.3.conv.\1"),
    (r"backbone\.fpn\.extra_blocks\.p7\.(.*)", r"neck.fpn_convs.4.conv.\1"),
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn_head.rpn_cls.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn_head.rpn_reg.\1"),
    (r"roi_heads\.box_head\.fc6\.(.*)", r"roi_head.bbox_head.shared_fcs.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(.*)", r"roi_head.bbox_head.shared_fcs.1.\1"),
    (r"roi_heads\.box_head\.(\d+)\.0\.(.*)", r"roi_head.bbox_head.shared_convs.\1.conv.\2"),
    (r"roi_heads\.box_head\.(\d+)\.1\.(.*)", r"roi_head.bbox_head.shared_convs.\1.bn.\2"),
    (r"roi_heads\.box_head\.5\.(weight|bias)", r"roi_head.bbox_head.shared_fcs.0.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"roi_head.bbox_head.fc_cls.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"roi_head.bbox_head.fc_reg.\1"),
    (r"roi_heads\.mask_head\.(\d+)\.0\.(.*)", r"roi_head.mask_head.convs.\1.conv.\2"),
    (r"roi_heads\.mask_head\.(\d+)\.1\.(.*)", r"roi_head.mask_head.convs.\1.bn.\2"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"roi_head.mask_head.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)", r"roi_head.mask_head.conv_logits.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(.*)", r"bbox_head.conv_centerness.\1"),
)
"""Those that do not depend on the rest. Older files leave out the index in a block of one layer."""

PREDICTORS: Final = {"retina": ("retina_cls", "retina_reg"), "fcos": ("conv_cls", "conv_reg")}


def convert(state: Mapping[str, Tensor], labels: Sequence[int] | None = None) -> dict[str, Tensor]:
    """The state dict of a RetinaNet, FCOS, Faster R-CNN or Mask R-CNN of torchvision, for detcfg's.

    Args:
        state: torchvision's, as it is published or as its `state_dict()` is.
        labels: Which of torchvision's labels become the classes 0, 1, …; `COCO_LABELS` for COCO's. None:
            all of them. That is 1, 2, … with RoI heads, whose background goes last; but 0, 1, … with
            dense heads, for which torchvision's background, 0, is a class like others that never occurs.

    Raises:
        DetcfgError: It is of another model.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = _renamed(name, state)
        if new is None:
            raise DetcfgError(
                f"{name!r} is of no RetinaNet, FCOS, Faster R-CNN or Mask R-CNN of torchvision with a "
                "ResNet and a feature pyramid."
            )
        renamed[new] = tensor
    _choose_classes(renamed, labels)
    for name in [name for name in renamed if name.endswith("running_var")]:  # frozen norms count nothing
        renamed.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    if "bbox_head.conv_centerness.weight" in renamed:  # torchvision's FCOS has no factors of levels
        renamed |= {f"bbox_head.scales.{level}.scale": torch.tensor(1.0) for level in range(5)}
    return renamed


def _renamed(name: str, state: Mapping[str, Tensor]) -> str | None:
    for pattern, replacement in NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    if match := re.fullmatch(r"rpn\.head\.conv\.(?:(\d+)\.0\.)?(weight|bias)", name):
        several = "rpn.head.conv.1.0.weight" in state
        return f"rpn_head.rpn_conv.{match[1]}.conv.{match[2]}" if several else f"rpn_head.rpn_conv.{match[2]}"
    if match := re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)", name):
        return f"roi_head.mask_head.convs.{int(match[1]) - 1}.conv.{match[2]}"
    if match := re.fullmatch(
        r"head\.(classification|regression)_head\.(cls_logits|bbox_reg|conv)\.(.*)", name
    ):
        return _dense_name(match[1], match[2], match[3], state)
    return None


def _dense_name(branch: str, layer: str, rest: str, state: Mapping[str, Tensor]) -> str | None:
    """Of the heads of RetinaNet and FCOS: layers in blocks, or one after another with their activations."""
    fcos = "head.regression_head.bbox_ctrness.weight" in state
    if layer != "conv":
        return f"bbox_head.{PREDICTORS['fcos' if fcos else 'retina'][layer == 'bbox_reg']}.{rest}"
    tower = "cls_convs" if branch == "classification" else "reg_convs"
    if match := re.fullmatch(r"(\d+)\.([01])\.(weight|bias)", rest):
        return f"bbox_head.{tower}.{match[1]}.{'gn' if match[2] == '1' else 'conv'}.{match[3]}"
    if match := re.fullmatch(r"(\d+)\.(weight|bias)", rest):
        block, step = divmod(int(match[1]), 3 if fcos else 2)
        return f"bbox_head.{tower}.{block}.{'gn' if step == 1 else 'conv'}.{match[2]}"
    return None


def _choose_classes(state: dict[str, Tensor], labels: Sequence[int] | None) -> None:
    """Keep the rows of the labels in all predictors, background last where RoI heads have it."""
    for kind in ("weight", "bias"):
        if (name := f"roi_head.bbox_head.fc_cls.{kind}") in state:
            chosen = list(range(1, len(state[name]))) if labels is None else list(labels)
            state[name] = state[name][[*chosen, 0]]
            for other, size in (
                (f"roi_head.bbox_head.fc_reg.{kind}", 4),
                (f"roi_head.mask_head.conv_logits.{kind}", 1),
            ):
                if other in state:
                    state[other] = _rows(state[other], chosen, size)
        for name in (f"bbox_head.retina_cls.{kind}", f"bbox_head.conv_cls.{kind}"):
            if name in state and labels is not None:
                state[name] = _anchor_rows(state, name, list(labels))


def _rows(tensor: Tensor, chosen: Sequence[int], size: int) -> Tensor:
    """(C * size, ...) to the rows of the chosen classes."""
    return tensor.reshape(-1, size, *tensor.shape[1:])[list(chosen)].flatten(0, 1)


def _anchor_rows(state: Mapping[str, Tensor], name: str, chosen: list[int]) -> Tensor:
    """(a * C, ...) to the rows of the chosen classes of each anchor."""
    tensor = state[name]
    anchors = len(state[name.replace("_cls", "_reg")]) // 4
    return tensor.reshape(anchors, -1, *tensor.shape[1:])[:, chosen].flatten(0, 1)
