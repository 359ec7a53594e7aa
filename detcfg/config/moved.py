"""What was called otherwise, or stood elsewhere, in earlier versions: one table.

`MOVES` is read by `config.load` (imports of experiments) and `config.serialize` (saved experiments) alone.

A change that moves, renames or takes away a module, a name in one, or a field of a config adds a step at the end of
`MOVES`, in which what it was stands before what it is:

- `"detcfg.heads.rpn_head": "detcfg.heads.proposal.rpn_head"`: a module and all that is in it;
- `"detcfg.heads.base:RoIHead": "detcfg.heads.roi.base:RoIHead"`: a class or a function, which may have gone another way
  than its module;
- `"detcfg.data.base:DataConfig.size": "detcfg.data.base:DataConfig.image_size"`: a field, of subclasses too;
- any of these: `Gone("Write … instead.")`.

Each step makes a version of the format in which experiments are saved. A name that is given up is not given to anything
else, because Python files do not say of which version they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from detcfg.config.base import ConfigError

SHIPPED: Final = "detcfg.experiments"
"""The import name of the experiments that come with detcfg; a user may call a package of their own `experiments`."""
SHIPPED_FOLDER: Final = Path(__file__).parents[1] / "experiments"
"""In a checkout a link to the folder `experiments` beside `detcfg`."""


@frozen(kw_only=True)
class Gone:
    """Something that there is no longer, or values that a field no longer takes."""

    instead: str = field(kw_only=False)
    """What to write instead, in a sentence."""
    values: tuple[object, ...] | None = None
    """Of a field: the values, as JSON has them, that it no longer takes. None: the field is gone with any value."""
    without_effect: tuple[object, ...] = ()
    """Of a field that is gone: the values that never did anything. They are dropped without a word."""


Step: TypeAlias = Mapping[str, str | Gone]


@frozen
class Moves:
    """Steps from version to version; the first leads from version 1 to 2."""

    steps: tuple[Step, ...]

    @cached_property
    def _fields(self) -> dict[str, list[tuple[int, str, str | Gone]]]:
        """Of each class, by its name today: the version before a step, a field's name then, and what it is."""
        found: dict[str, list[tuple[int, str, str | Gone]]] = {}
        for version, step in enumerate(self.steps, start=1):
            for old, new in step.items():
                cls, dot, name = old.rpartition(".")
                if dot and ":" in cls and isinstance(today := self.name(cls, version), str):
                    found.setdefault(today, []).append((version, name, new))
        return found

    @property
    def version(self) -> int:
        """The version of the format that is written today."""
        return len(self.steps) + 1

    def name(self, path: str, version: int = 1) -> str | Gone:
        """What `package.module`, or `package.module:Name`, of a version is called today."""
        for step in self.steps[version - 1 :]:
            module, colon, name = path.partition(":")
            outer, dot, inner = name.partition(".")
            target, rest = step.get(f"{module}:{outer}"), dot + inner
            if target is None:
                target, rest = step.get(module, module), colon + name
            if isinstance(target, Gone):
                return target
            path = target + rest
        return path

    def values(
        self, values: Mapping[str, Any], classes: Iterable[str], version: int, path: str
    ) -> dict[str, Any]:
        """The values of a config that was saved in a version, by today's names of its fields.

        Args:
            values: By the names that the fields had.
            classes: The config's class and those that it derives from, as `package.module:Class` of today.
            version: Of the file.
            path: Where the config stands, for an error.

        Raises:
            ConfigError: A value is gone.
        """
        values = dict(values)
        steps = sorted((s for cls in classes for s in self._fields.get(cls, ())), key=lambda s: s[0])
        for before, name, new in steps:
            if before < version or name not in values:
                continue
            if isinstance(new, str):
                values[new.rpartition(".")[2]] = values.pop(name)
            elif new.values is None:
                value = values.pop(name)
                if value not in new.without_effect:
                    raise ConfigError(f"{path}.{name} is {value!r}, and the field is gone. {new.instead}")
            elif values[name] in new.values:
                raise ConfigError(
                    f"{path}.{name} is {values[name]!r}, which it no longer takes. {new.instead}"
                )
        return values


def is_users(module: str, folders: Iterable[str | Path]) -> bool:
    """Whether a module lies in one of the folders and does not come with detcfg, which once had one of that name."""
    for folder in () if module.startswith("detcfg.") else folders:
        place = Path(folder, *module.split("."))
        if place.parent.resolve() == SHIPPED_FOLDER.resolve():
            continue
        if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
            return True
    return False


def _names(old: str, new: str, *names: str) -> dict[str, str]:
    return {f"{old}:{name}": f"{new}:{name}" for name in names}


_HEADS: Final = {
    "anchor_based": """
        anchor_head approx_anchor_head atss_head ddod_head free_anchor_retina_head fsaf_head ga_retina_head
        gfl_head guided_anchor_head location_targets paa_head pisa_retina_head retina_head retina_sepbn_head
        sabl_retina_head task_decomposition tood_head yolof_head
    """,
    "anchor_free": """
        anchor_free_head autoassign_head centernet_head centernet_targets centernet_update_head fcos_head
        fovea_head heatmap rep_points reppoints_head rtmdet_head vfnet_head yolox_head
    """,
    "bbox": "bbox_head convfc_bbox_head double_conv_fc_bbox_head grid_head sabl_head",
    "dense": "anchor_targets base point_targets towers",
    "instance": """
        condinst_bbox_head condinst_mask_feat condinst_mask_head decoupled_solo_head solo_head solo_targets
        solov2_head solov2_mask_feat
    """,
    "mask": "coarse_mask_head fcn_mask_head fused_semantic_head htc_mask_head mask_iou_head mask_point_head",
    "proposal": "cascade_rpn_head ga_rpn_head rpn_head stage_cascade_rpn_head",
    "roi": """
        cascade_roi_head double_head_roi_head dynamic_roi_head grid_roi_head htc_roi_head
        mask_scoring_roi_head pisa_roi_head point_rend_roi_head res_layer standard_roi_head trident_roi_head
    """,
}
"""The modules of `detcfg.heads` that kept their names, by the room that each went to."""
_EXPERIMENTS: Final = """
    atss autoassign c4 cascade_mask_rcnn cascade_rcnn cascade_rpn centernet centernet_r18 condinst dc5 dcn
    dcnv2 ddod detectors double_head double_head_bccd double_head_demo dyhead dynamic_rcnn faster_rcnn fcos
    foveabox free_anchor fsaf ga_faster_rcnn ga_retinanet ga_rpn gcnet gfl ghm giou gn gn_ws grid_rcnn groie
    hrnet htc libra mask_rcnn mask_rcnn_nuclei ms_rcnn nas_fpn ohem paa pafpn pisa pisa_retinanet point_rend
    pvt regnet reppoints res2net resnest resnext retinanet rpn rtmdet sabl sabl_retinanet seesaw solo solov2
    swin tood tridentnet vfnet yolof yolox
"""

_WITH_INDICES: Final = Gone(
    "Use select_detections and postprocess of detcfg.heads.dense.detections, which give indices beside detections."
)
_SCORER: Final = Gone(
    "Derive from detcfg.boxes.samplers.base:PriorScorer: sample_losses(priors, labels) and predict(priors)."
)
_OF_A_STAGE: Final = Gone("Derive from detcfg.heads.roi.stage:RoIStage, of which it is a method or a part.")

_ROOMS: Final[Step] = {
    **{
        f"detcfg.heads.{name}": f"detcfg.heads.{room}.{name}"
        for room, names in _HEADS.items()
        for name in names.split()
    },
    "detcfg.heads.center_prior": "detcfg.heads.anchor_free.autoassign_head",
    "detcfg.heads.centerness": "detcfg.heads.dense.point_targets",
    "detcfg.heads.dense_test": "detcfg.heads.dense.detections",
    "detcfg.heads.mask_head_base": "detcfg.heads.mask.base",
    "detcfg.heads.proposal_head": "detcfg.heads.proposal.base",
    "detcfg.heads.roi_parts": "detcfg.heads.roi.common",
    "detcfg.heads.shared_2fc_bbox_head": "detcfg.heads.bbox.convfc_bbox_head",
    "detcfg.heads.shared_4conv1fc_bbox_head": "detcfg.heads.bbox.convfc_bbox_head",
    "detcfg.heads.shared_head_base": "detcfg.heads.roi.shared_head",
    **_names("detcfg.boxes.assigners.atss", "detcfg.boxes.geometry", "centres", "inside"),
    **_names("detcfg.boxes.coders.base", "detcfg.boxes.geometry", "clip_boxes"),
    **_names("detcfg.heads.dense_test", "detcfg.boxes.geometry", "scale_boxes"),
    **_names("detcfg.heads.point_targets", "detcfg.boxes.geometry", "side_distances"),
    **_names("detcfg.heads.anchor_head", "detcfg.heads.dense.levels", "sizes_of"),
    **_names("detcfg.heads.dense_test", "detcfg.heads.dense.levels", "flatten_level", "flatten_levels"),
    **_names("detcfg.heads.point_targets", "detcfg.heads.dense.levels", "per_level"),
    **_names("detcfg.heads.tood_head", "detcfg.heads.dense.levels", "geometric_mean"),
    **_names("detcfg.heads.anchor_head", "detcfg.heads.dense.anchor_targets", "level_losses"),
    "detcfg.heads.anchor_targets:Places": "detcfg.heads.dense.anchor_targets:Inds",
    "detcfg.heads.atss_head:positives": Gone(
        "Write targets.positive and targets.priors_of(anchors), of detcfg.heads.dense.anchor_targets:AnchorTargets."
    ),
    **{
        f"detcfg.heads.dense_test:{name}": _WITH_INDICES for name in ("choose_detections", "dense_detections")
    },
    "detcfg.heads.dense_test:chosen_with_indices": "detcfg.heads.dense.detections:select_detections",
    "detcfg.heads.dense_test:detections_with_places": "detcfg.heads.dense.detections:postprocess",
    **{
        f"detcfg.heads.roi_parts:{name}": _OF_A_STAGE
        for name in ("assign_proposals", "choose", "decode_image", "on_pooled", "rois_of", "sample_proposals")
    },
    "detcfg.heads.towers:tower_of": Gone(
        "Derive the config from detcfg.heads.dense.towers:TowerConfig: its tower()."
    ),
    **_names("detcfg.heads.base", "detcfg.heads.roi.base", "RoIHead", "RoIHeadConfig"),
    **_names("detcfg.engine.checkpoint", "detcfg.engine.weights", "checkpoint_file", "load_weights"),
    "detcfg.backbones.pretrained:PretrainedReport": "detcfg.layers.state_dict:StateDictMatch",
    "detcfg.benchmark.evaluation:Judged": "detcfg.benchmark.evaluation:EvaluationData",
    "detcfg.benchmark.evaluation:own_evaluation": "detcfg.benchmark.evaluation:detcfg_evaluation",
    "detcfg.benchmark.pipeline:own_pipeline": "detcfg.benchmark.pipeline:detcfg_pipeline",
    "detcfg.boxes.nms:apart": "detcfg.boxes.nms:offset_by_group",
    **{f"{module}:Hardness": _SCORER for module in ("detcfg.boxes.samplers.base", "detcfg.heads.roi_parts")},
    "detcfg.boxes.samplers.score_hlr:Judge": _SCORER,
    "detcfg.boxes.samplers.score_hlr:Judgement": "detcfg.boxes.samplers.base:PriorPredictions",
    "detcfg.detectors.wiring": Gone(
        "Derive from detcfg.detectors.backbone_neck:BackboneNeckConfig: its wired() wires the neck, and its "
        "wired_head(head, name) or wired_class_head(head, name) a head."
    ),
    "detcfg.engine.amp": "detcfg.recipe.amp",
    "detcfg.engine.config": "detcfg.recipe.config",
    "detcfg.engine.ema": "detcfg.recipe.ema",
    "detcfg.engine.optimizers": "detcfg.recipe.optimizers",
    "detcfg.engine.schedules": "detcfg.recipe.schedules",
    "detcfg.engine.distributed:anywhere": "detcfg.engine.distributed:any_rank",
    "detcfg.engine.distributed:from_first": "detcfg.engine.distributed:broadcast_from_rank0",
    "detcfg.engine.distributed:gathered": "detcfg.engine.distributed:all_gather",
    "detcfg.engine.distributed:together": "detcfg.engine.distributed:is_distributed",
    "detcfg.engine.distributed:total": "detcfg.engine.distributed:all_reduce_sum",
    "detcfg.engine.distributed:wrapped": "detcfg.engine.distributed:wrap_ddp",
    **_names("detcfg.engine.log", "detcfg.engine.report", "Pace", "duration"),
    "detcfg.engine.sharding:gathered": "detcfg.engine.sharding:full_tensors",
    "detcfg.engine.sharding:own_part": "detcfg.engine.sharding:local_shard",
    "detcfg.engine.trainer:METRICS": Gone(
        "An evaluator says what it measures: detcfg.evaluation.coco:CocoEvaluator.metrics."
    ),
    "detcfg.engine.trainer:Progress": "detcfg.engine.progress:Progress",
    "detcfg.engine.trainer:to_floats": "detcfg.engine.step:to_floats",
    "detcfg.engine.weights:LoadReport": "detcfg.layers.state_dict:StateDictMatch",
    **_names("detcfg.evaluation.found", "detcfg.evaluation.detections_file", "read_detections"),
    "detcfg.evaluation.found:Found": "detcfg.evaluation.found:ImageDetections",
    "detcfg.interop.mmdet.data:Place": "detcfg.interop.mmdet.data:Location",
    "detcfg.layers.memory": "detcfg.layers.training_state",
    "detcfg.layers.memory:Remembers": "detcfg.layers.training_state:HasTrainingState",
    "detcfg.layers.memory:memories": "detcfg.layers.training_state:training_states",
    "detcfg.layers.memory:recall": "detcfg.layers.training_state:load_training_states",
    "detcfg.layers.non_local:places": "detcfg.layers.non_local:flattened",
    "detcfg.losses.base:shared_divisor": Gone(
        "Return detcfg.losses.base:empty_loss where a process has no elements."
    ),
    # A person's own package may have their name: `is_users`.
    **{f"experiments.{name}": f"{SHIPPED}.{name}" for name in _EXPERIMENTS.split()},
}
"""Each kind of head got its room, experiments a name that no user has, and what describes a training left the engine."""

MOVES: Final = Moves((_ROOMS,))
