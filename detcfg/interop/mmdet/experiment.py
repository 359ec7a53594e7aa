"""A whole MMDetection config as a detcfg experiment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from attrs import evolve, frozen

from detcfg.config.base import ConfigError
from detcfg.data.coco import CocoDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.detectors.base import DetectorConfig
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.components import index
from detcfg.interop.mmdet.coverage import unclaimed
from detcfg.interop.mmdet.data import Node, is_list
from detcfg.interop.mmdet.data_part import DataTranslator
from detcfg.interop.mmdet.derive import replaced
from detcfg.interop.mmdet.dialect import modern
from detcfg.interop.mmdet.read import Source
from detcfg.interop.mmdet.record import Record
from detcfg.interop.mmdet.stubs import Missing
from detcfg.interop.mmdet.trainer_part import TrainerTranslator
from detcfg.interop.mmdet.translate import Translator, translate_model
from detcfg.recipe.config import TrainerConfig

WITHOUT_EFFECT: Final = {
    "default_scope": "components are imported, not looked up",
    "env_cfg": "torchrun and the loader see to it",
    "vis_backends": "detcfg predict draws detections",
    "visualizer": "detcfg predict draws detections",
    "log_processor": "detcfg's log needs no settings",
    "log_level": "detcfg's log needs no settings",
    "launcher": "torchrun starts the processes",
    "work_dir": "detcfg train --out",
    "dist_params": "torchrun starts the processes",
    "workflow": "training and evaluation take turns",
    "resume": "detcfg train --resume",
    "val_cfg": "evaluation follows each epoch",
    "opencv_num_threads": "detcfg does not use OpenCV",
    "mp_start_method": "the loader sees to it",
    "find_unused_parameters": "every parameter is used",
}
"""What a config may say beside model, data and training: why detcfg need not be told."""
NOT_KNOWN: Final = "the importer does not know it"
"""What is said of a value that no rule speaks of, so that none is lost without a word."""
AS_COCO: Final = "detcfg evaluates as COCO does"
METRICS: Final = dict.fromkeys(("CocoMetric", "bbox", "segm", "proposal"), AS_COCO) | {
    "LVISMetric": "LVIS's annotations are judged by LVIS's rules"
}


@frozen(kw_only=True)
class Imported:
    """An experiment, and what became of each value of its source."""

    source: Source
    model: DetectorConfig
    data: DataConfig | None
    """None: the source has no data to train on."""
    trainer: TrainerConfig
    num_classes: int | None
    record: Record
    missing: tuple[Missing, ...]

    @property
    def experiment(self) -> ExperimentConfig:
        """The experiment as an object; components that detcfg lacks are stubs.

        Raises:
            ConfigError: The source has no data.
        """
        if self.data is None:
            raise ConfigError(f"{self.source.path}: there is no train_dataloader whose data detcfg can read.")
        return ExperimentConfig(model=self.model, data=self.data, trainer=self.trainer)


def import_config(
    source: Source, *, modules: Collection[str] = (), classes: tuple[str, ...] | None = None
) -> Imported:
    """Translate a config that was read.

    Args:
        source: The config with what it inherits.
        modules: Where to look for components besides detcfg.
        classes: The names of the classes, for data that does not say them.

    Raises:
        ConfigError: It has no model, or contradicts itself.
    """
    data = modern(source.data)
    model: Any = data.get("model")
    if not isinstance(model, Node):
        raise ConfigError(f"{source.path}: there is no model in it, so it is a part of a config, not one.")
    found = translate_model(model, modules=modules)
    translator = Translator(index(modules), found.record)
    translated, times = DataTranslator(translator, data, found.num_classes, classes).translated()
    train = translated.train if translated is not None else None
    batch = 8 * translated.batch_size if translated is not None else 16
    trainer = TrainerTranslator(
        translator, data, times=times, batch=batch, coco=isinstance(train, CocoDatasetConfig)
    ).translated()
    if translated is not None and found.num_classes not in (None, len(translated.classes)):
        note = (
            f"the heads have {found.num_classes} classes, the data {len(translated.classes)}, which decides"
        )
        found.record.unsupported("model", data.locations.get("model"), note)
    translated_model = _last_epochs(found.model, data, trainer, found.record)
    trainer = _start(model, trainer, found.record)
    _rest(data, found.record)
    for lost in unclaimed(data, found.record):
        found.record.unsupported(lost.path, lost.location, NOT_KNOWN)
    return Imported(
        source=source,
        model=translated_model,
        data=translated,
        trainer=trainer,
        num_classes=found.num_classes,
        record=found.record,
        missing=(*found.missing, *translator.missing),
    )


def _last_epochs(model: DetectorConfig, data: Node, trainer: TrainerConfig, record: Record) -> DetectorConfig:
    """YOLOX adds a loss in its last epochs, which a hook of MMDetection's switches on."""
    head: Any = getattr(model, "bbox_head", None)
    hooks: Any = data.get("custom_hooks")
    for hook in hooks if is_list(hooks) else []:
        if (
            isinstance(hook, Node)
            and hook.get("type") == "YOLOXModeSwitchHook"
            and hasattr(head, "l1_from_epoch")
        ):
            epochs = hook.get("num_last_epochs", 15)
            record.carried("custom_hooks", hook.locations.get("type"), "model.bbox_head.l1_from_epoch")
            return replaced(model, "bbox_head.l1_from_epoch", trainer.epochs - epochs)
    return model


def _start(model: Node, trainer: TrainerConfig, record: Record) -> TrainerConfig:
    """`init_cfg` of the whole model is a checkpoint to start from."""
    init: Any = model.get("init_cfg")
    checkpoint: Any = init.get("checkpoint") if isinstance(init, Node) else None
    if not isinstance(checkpoint, str) or "://" in checkpoint:
        return trainer
    record.carried("model.init_cfg", model.locations.get("init_cfg"), "trainer.load_from")
    return evolve(trainer, load_from=checkpoint)


def _rest(data: Node, record: Record) -> None:
    """What has an effect in MMDetection and belongs neither to model, data nor training."""
    for key, value in data.items():
        location = data.locations.get(key)
        if key in WITHOUT_EFFECT:
            record.defaulted(str(key), location, WITHOUT_EFFECT[key])
        elif key == "test_cfg" and isinstance(value, Node):
            for name in (name for name in value if name != "type"):
                note = "evaluation has no such setting"
                record.unsupported(f"test_cfg.{name}", value.locations.get(name), note)
        elif key in ("val_evaluator", "test_evaluator"):
            for metric in value if is_list(value) else [value]:
                kind = metric.get("type", "CocoMetric") if isinstance(metric, Node) else None
                if kind is None or (isinstance(kind, str) and kind in METRICS):
                    record.defaulted(str(key), location, METRICS.get(str(kind), AS_COCO))
                else:
                    record.unsupported(str(key), location, f"{kind}: {AS_COCO}")
        elif key in ("tta_model", "tta_pipeline"):
            record.unsupported(str(key), location, "detcfg does not test on changed copies of an image")
        elif key == "custom_imports":
            note = "port the modules' components: config class, build, `from … import …`"
            record.unsupported(str(key), location, note)
