"""How MMDetection and detcfg differ in names: renamed fields, and keys that have no effect here.

Everything that is not listed keeps its name. A rule is looked up by MMDetection's `type`, and by
the config class's name (which holds for its subclasses too, and for what has no `type`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from detcfg.interop.mmdet.data import Location, Node

SOLO_RANGES: Final = [[8, 32], [16, 64], [32, 128], [64, 256], [128, 512]]

NOTHING: Final[Mapping[str, str]] = {}


OURS: Final = object()
"""Instead of a default: that of detcfg's class is MMDetection's, unlike that of its base class."""


@frozen(kw_only=True)
class Rule:
    """How one kind of dict is read."""

    renamed: Mapping[str, str] = NOTHING
    """MMDetection's key: detcfg's field."""
    dropped: Mapping[str, str] = NOTHING
    """Keys without effect here: why."""
    harmless: Mapping[str, tuple[Any, ...]] = {}
    """Values of a key that are what detcfg does in any case."""
    defaults: Mapping[str, Any] = {}
    """MMDetection's defaults, where those of detcfg's class differ."""


CLIPPED: Final = {"clip_object_border": "boxes end at the border"}
RESIZE: Final = Rule(
    dropped={
        "backend": "torchvision resizes",
        "resize_type": "there is one kind of resize",
        **CLIPPED,
    },
    defaults={"keep_ratio": False},
)

UPSAMPLED: Final = Rule(
    renamed={"upsample_cfg.mode": "upsample_mode"}, harmless={"upsample_cfg.scale_factor": (2,)}
)

ANY_COMPONENT: Final = Rule(
    dropped={
        "debug": "it only prints",
        "_scope_": "components are imported, not looked up",
        "with_cls": "every head predicts classes",
    },
    harmless={
        "train_cfg": (None,),
        "test_cfg": (None,),
        "init_cfg": (None,),
        "pretrained": (None,),
        "with_reg": (True,),
        "use_box_type": (False,),
        "predict_box_type": ("hbox",),
    },
)

RULES: Final[Mapping[str, Rule]] = {
    "DetDataPreprocessor": Rule(
        dropped={
            "pad_mask": "masks are never padded",
            "mask_pad_value": "masks are never padded",
        },
        harmless={
            "bgr_to_rgb": (True, False),  # becomes `channel_order` before
            "rgb_to_bgr": (False,),
            "boxtype2tensor": (True, False),
            "non_blocking": (True, False),
            "batch_augments": (None, []),
            "pad_seg": (False,),
            "seg_pad_value": (255,),
        },
        defaults={
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "bgr_to_rgb": False,
            "pad_size_divisor": 1,
        },
    ),
    "MultiheadAttention": Rule(harmless={"batch_first": (True,)}),
    "BBoxL1Cost": Rule(harmless={"box_format": ("xywh",)}),
    "FocalLossCost": Rule(harmless={"binary_input": (False,)}),
    "ConditionalAttention": Rule(
        dropped={"cross_attn": "it follows from where the attention stands"},
        harmless={"batch_first": (True,)},
    ),
    "QueryDecoderConfig": Rule(harmless={"return_intermediate": (True,)}),
    "DETRHead": Rule(
        renamed={"loss_cls.bg_cls_weight": "bg_cls_weight"},
        dropped={"sync_cls_avg_factor": "divisors are those of all processes in any case"},
        harmless={"loss_cls.class_weight": (1.0,)},
    ),
    "SinePositionalEncoding": Rule(defaults={"normalize": False}),
    "RoIAlign": Rule(
        harmless={"aligned": (True,), "use_torchvision": (True, False), "pool_mode": ("avg",)},
    ),
    "FPN": UPSAMPLED,
    "YOLOXPAFPN": UPSAMPLED,
    "DCN": Rule(renamed={"deformable_groups": "deform_groups"}, harmless={"fallback_on_stride": (False,)}),
    "DCNv2": Rule(renamed={"deformable_groups": "deform_groups"}, harmless={"fallback_on_stride": (False,)}),
    "NormedLinear": Rule(renamed={"tempearture": "temperature"}, harmless={"bias": (True,)}),
    "NormedConv2d": Rule(renamed={"tempearture": "temperature"}),
    "ResNet": Rule(harmless={"non_block_plugin": (None,)}),
    "CrossEntropyLoss": Rule(harmless={"use_mask": (False,)}),
    **dict.fromkeys(
        ("CrossEntropyCustomLoss", "FocalCustomLoss"), Rule(dropped={"num_classes": "the head says so"})
    ),
    "RPNHeadConfig": Rule(harmless={"num_classes": (1,)}, defaults={"sampler": {"type": "PseudoSampler"}}),
    "DenseHeadConfig": Rule(harmless={"background_label": (None,)}),
    "AssignerConfig": Rule(harmless={"iou_calculator": ({"type": "BboxOverlaps2D"},)}),
    "OHEMSampler": Rule(harmless={"loss_key": ("loss_cls",)}),
    "GridHead": Rule(dropped={"class_agnostic": "MMDetection does not look at it"}),
    "HRFPN": Rule(dropped={"norm_cfg": "MMDetection does not look at it"}),
    "BFP": Rule(dropped={"num_levels": "the neck before it says so"}),
    "ConvModule": Rule(
        dropped={
            "in_channels": "they follow from where it stands",
            "out_channels": "they follow from where it stands",
            "inplace": "the result is the same",
        }
    ),
    "PluginLayerConfig": Rule(dropped={"in_channels": "they follow from where it stands"}),
    "SwinTransformer": Rule(dropped={"convert_weights": "names of other projects are known by themselves"}),
    "TwoStageDetectorConfig": Rule(defaults={"neck": None}),
    "DetectorConfig": Rule(defaults={"data_preprocessor": {"type": "DetDataPreprocessor"}}),
    "AnchorHead": Rule(
        defaults={
            "anchor_generator": {"type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0]},
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder"},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
            "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0 / 9.0},
        }
    ),
    "RetinaHead": Rule(
        defaults={
            "anchor_generator": {
                "type": "AnchorGenerator",
                "octave_base_scale": 4,
                "scales_per_octave": 3,
                "ratios": [0.5, 1.0, 2.0],
            }
        }
    ),
    "GuidedAnchorHead": Rule(
        defaults={
            "anchor_generator": OURS,
            "approx_anchor_generator": {
                "type": "AnchorGenerator",
                "octave_base_scale": 8,
                "scales_per_octave": 3,
            },
            "square_anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "scales": [8]},
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
            "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0},
            "ga_sampler": {"type": "PseudoSampler"},
            "sampler": {"type": "PseudoSampler"},
        }
    ),
    "SABLRetinaHead": Rule(
        defaults={
            "anchor_generator": OURS,
            "bbox_coder": {"type": "BucketingBBoxCoder", "num_buckets": 14, "scale_factor": 3.0},
            "loss_cls": OURS,
            "loss_bbox": OURS,
        }
    ),
    "PISARetinaHead": Rule(defaults={"isr": None, "carl": None}),
    "PISARoIHead": Rule(defaults={"isr": None, "carl": None}),
    "GARPNHead": Rule(harmless={"num_classes": (1,)}),
    "GFLHead": Rule(defaults={"bbox_coder": {"type": "DistancePointBBoxCoder"}}),
    "VFNetHead": Rule(defaults={"bbox_coder": {"type": "DistancePointBBoxCoder"}, "stacked_convs": 4}),
    "RepPointsHead": Rule(
        dropped={"allowed_border": "MMDetection does not look at it"},
        harmless={"init": tuple({"allowed_border": b, "pos_weight": -1, "debug": False} for b in (-1, 0))},
        defaults={"stacked_convs": 4},
    ),
    "FoveaHead": Rule(defaults={"loss_bbox": {"type": "IoULoss"}}),
    "FSAFHead": Rule(
        dropped={"score_threshold": "it is for a figure of the log"}, defaults={"reg_decoded_bbox": False}
    ),
    "TOODHead": Rule(defaults={"stacked_convs": 4}),
    "BBoxHead": Rule(defaults={"loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0}}),
    "StageCascadeRPNHead": Rule(defaults={"anchor_generator": OURS}),
    "FreeAnchorRetinaHead": Rule(defaults={"loss_cls": OURS}),
    "SABLHead": Rule(
        dropped=dict.fromkeys(("cls_in_channels", "reg_in_channels"), "they follow from the RoI extractor"),
        defaults={"loss_bbox": OURS},
    ),
    "RTMDetHead": Rule(
        renamed={"anchor_generator": "prior_generator"},
        dropped={"allowed_border": "every point may be positive"},
    ),
    "BatchFixedSizePad": Rule(dropped={"pad_mask": "masks are never padded"}),
    "CondInstMaskTestConfig": Rule(dropped={"nms": "the bbox head has it"}),
    "DoubleConvFCBBoxHead": Rule(defaults={"num_convs": 0, "num_fcs": 0}),
    "SOLOHead": Rule(
        dropped={"strides": "they follow from the neck's"},
        defaults={"stacked_convs": 4, "scale_ranges": SOLO_RANGES},
    ),
    "SOLOV2Head": Rule(defaults={"feat_channels": 256}),
    "DecoupledSOLOHead": Rule(defaults={"loss_mask": {"type": "DiceLoss", "loss_weight": 3.0}}),
    "CondInstBboxHead": Rule(
        defaults={
            "loss_bbox": {"type": "IoULoss"},
            "center_sampling": False,
            "norm_on_bbox": False,
            "centerness_on_reg": False,
        }
    ),
    "ResidualConfig": Rule(harmless={"plugins": (None,)}),
    "DenseTestConfig": Rule(
        renamed={"max_num": "max_per_img"}, defaults={"nms_pre": -1, "min_bbox_size": -1, "score_thr": 0.0}
    ),
    "RPNTestConfig": Rule(
        dropped={"nms_post": "`max_per_img` decides", "score_thr": "proposals go by rank"},
        harmless={"nms_across_levels": (False,)},
        defaults={"nms_pre": -1, "min_bbox_size": -1},
    ),
    "NMSConfig": Rule(renamed={"iou_thr": "iou_threshold"}),
    "MaxIoUAssignerConfig": Rule(
        dropped={"gpu_assign_thr": "memory is bounded in any case", "perm_repeat_gt_cfg": ""},
    ),
    "Resize": RESIZE,
    "RandomResize": RESIZE,
    "RandomChoiceResize": RESIZE,
    "RandomCrop": Rule(dropped=CLIPPED, harmless={"bbox_clip_border": (True,)}),
    "Expand": Rule(harmless={"to_rgb": (True,)}, defaults={"mean": (0.0, 0.0, 0.0)}),
    "FilterAnnotations": Rule(harmless={"by_box": (True,), "keep_empty": (False,)}),
    "AnchorGenerator": Rule(harmless={"centers": (None,)}),
}


def rules_for(type_name: str, cls: type) -> list[Rule]:
    """The rules that hold for a dict of this `type` that becomes a `cls`, the most specific first."""
    names = [type_name, *(base.__name__ for base in cls.__mro__)]
    names += [name.removesuffix("Config") for name in names[1:]]
    found = [RULES[name] for name in dict.fromkeys(names) if name in RULES]
    return [*found, ANY_COMPONENT]


def rename(node: Node, rule: Rule) -> list[tuple[str, Location | None]]:
    """Move values to detcfg's names; `a.b` takes one out of an inner dict.

    Returns:
        Paths and locations of the inner values that were removed, as detcfg does what they ask in any case.
    """
    removed: list[tuple[str, Location | None]] = []
    for old, new in rule.renamed.items():
        outer, _, inner = old.rpartition(".")
        holder: Any = node.get(outer) if outer else node
        if isinstance(holder, Node) and inner in holder and new not in node:
            location = holder.locations.get(inner)
            node.put(new, holder.drop(inner), location)
    for path, values in rule.harmless.items():
        outer, _, inner = path.rpartition(".")
        holder = node.get(outer) if outer else None
        if isinstance(holder, Node) and holder.get(inner, rule) in values:
            removed.append((path, holder.locations.get(inner)))
            holder.drop(inner)
    for path in (*rule.renamed, *rule.harmless):
        outer = path.rpartition(".")[0]
        if outer and isinstance(node.get(outer), Node) and not node[outer]:
            node.drop(outer)
    return removed
