"""Optimizer, schedule, loops and hooks as detcfg's `trainer`."""

from __future__ import annotations

from typing import Any, Final, cast

import attrs
from attrs import evolve

from detcfg.config.base import Config
from detcfg.interop.mmdet.components import short_name
from detcfg.interop.mmdet.data import Location, Node, is_list, is_number, is_tuple
from detcfg.interop.mmdet.translate import Spot, Translator
from detcfg.recipe.config import ClipGradConfig, TrainerConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import CustomKeyConfig, OptimizerConfig, ParamwiseConfig
from detcfg.recipe.schedules import ConstantConfig, CosineConfig, MultiStepConfig, ScheduleConfig

COCO_IMAGES: Final = 117_266
"""Images of train2017 with objects, which MMDetection trains on."""

HOOKS: Final = {
    "timer": "detcfg's log has the times",
    "param_scheduler": "the trainer has one schedule",
    "sampler_seed": "the loader's order follows from the seed and the epoch",
    "visualization": "detcfg predict draws detections",
    "NumClassCheckHook": "classes are wired and checked before training",
    "CheckInvalidLossHook": "training stops where a loss is not finite",
    "SyncBuffersHook": "workers share their buffers",
    "SyncNormHook": "workers share their buffers",
    "MemoryProfilerHook": "detcfg's log has the memory",
    "DetVisualizationHook": "detcfg predict draws detections",
}
"""Hooks whose work detcfg does by itself."""
METRICS: Final = {
    "coco/bbox_mAP": "bbox_AP",
    "bbox_mAP": "bbox_AP",
    "auto": "bbox_AP",
    "coco/segm_mAP": "segm_AP",
    "segm_mAP": "segm_AP",
    "coco/bbox_mAP_50": "bbox_AP50",
}
"""MMDetection's name of a metric: detcfg's."""


class TrainerTranslator:
    """Translates how a config in the 3.x dialect trains."""

    def __init__(self, translator: Translator, data: Node, *, times: int, batch: int, coco: bool) -> None:
        self.translator, self.record = translator, translator.record
        self.data = data
        self.times = times
        """How often an epoch of MMDetection goes over the data."""
        self.steps = COCO_IMAGES // batch if coco else None
        """Steps of an epoch, where the data is known."""

    def translated(self) -> TrainerConfig:
        values: dict[str, Any] = {}
        lr = self._optimizer(values)
        self._loop(values)
        schedule = self._schedule(lr, values)
        if schedule is not None:
            values["schedule"] = schedule
        self._hooks(values)
        self._others(values)
        return self.translator.made(TrainerConfig, values, Spot("trainer", "trainer"))

    def _optimizer(self, values: dict[str, Any]) -> float | None:
        wrapper: Any = self.data.get("optim_wrapper")
        if not isinstance(wrapper, Node):
            return None
        optimizer: Any = wrapper.get("optimizer")
        spot = Spot("optim_wrapper.optimizer", "trainer.optimizer", wrapper.locations.get("optimizer"))
        lr: float | None = None
        if isinstance(optimizer, Node):
            lr = float(optimizer["lr"]) if is_number(optimizer.get("lr")) else None
            made = self.translator.component(optimizer, (OptimizerConfig,), spot)
            paramwise: Any = wrapper.get("paramwise_cfg")
            if isinstance(paramwise, Node) and "bypass_duplicate" in paramwise:
                note = "each parameter is in the optimizer once, wherever it is shared"
                self._defaulted(paramwise, "optim_wrapper.paramwise_cfg", "bypass_duplicate", note)
            if isinstance(paramwise, Node) and isinstance(made, OptimizerConfig):
                made = evolve(made, paramwise_cfg=self._paramwise(paramwise))
            values["optimizer"] = made
        kind = wrapper.get("type")
        if isinstance(kind, str) and short_name(kind) == "AmpOptimWrapper":
            values["amp"] = "bf16" if wrapper.get("dtype") == "bfloat16" else "fp16"
            self.record.carried("optim_wrapper.type", wrapper.locations.get("type"), "trainer.amp")
        clip: Any = wrapper.get("clip_grad")
        if isinstance(clip, Node):
            spot = Spot("optim_wrapper.clip_grad", "trainer.clip_grad", wrapper.locations.get("clip_grad"))
            values["clip_grad"] = self.translator.component(clip, (ClipGradConfig,), spot)
        if type(wrapper.get("accumulative_counts")) is int:
            values["accumulate"] = wrapper["accumulative_counts"]
            self.record.carried("optim_wrapper.accumulative_counts", None, "trainer.accumulate")
        for key in wrapper:
            if key in ("loss_scale", "dtype"):
                self._defaulted(wrapper, "optim_wrapper", key, "amp chooses the scale by itself")
            elif key not in ("type", "optimizer", "paramwise_cfg", "clip_grad", "accumulative_counts"):
                self._unsupported(wrapper, "optim_wrapper", key)
        return lr

    def _paramwise(self, node: Node) -> ParamwiseConfig:
        values = Node(
            {k: v for k, v in node.items() if k not in ("custom_keys", "bypass_duplicate")}, node.locations
        )
        keys: Any = node.get("custom_keys")
        found: list[CustomKeyConfig] = []
        for key, mults in keys.items() if isinstance(keys, Node) else ():
            inner = (
                Node({"key": key, **mults}, mults.locations)
                if isinstance(mults, Node)
                else Node({"key": key})
            )
            spot = Spot(f"optim_wrapper.paramwise_cfg.custom_keys.{key}", "", keys.locations.get(key))
            found.append(cast("CustomKeyConfig", self.translator.component(inner, (CustomKeyConfig,), spot)))
        spot = Spot("optim_wrapper.paramwise_cfg", "trainer.optimizer.paramwise_cfg")
        made = self.translator.component(values, (ParamwiseConfig,), spot)
        return evolve(cast("ParamwiseConfig", made), custom_keys=tuple(found))

    # Length and schedule

    def _loop(self, values: dict[str, Any]) -> None:
        loop: Any = self.data.get("train_cfg")
        if not isinstance(loop, Node):
            return
        for key, value in loop.items():
            path, location = f"train_cfg.{key}", loop.locations.get(key)
            if key == "type":
                continue
            if key == "max_epochs" and type(value) is int:
                values["epochs"] = value * self.times
                self.record.carried(path, location, "trainer.epochs")
            elif key == "max_iters" and type(value) is int:
                epochs = self._epochs(value, path, location)
                if epochs is not None:
                    values["epochs"] = epochs
            elif key == "val_interval" and type(value) is int and "max_iters" not in loop:
                values["val_interval"] = max(1, value * self.times)
                self.record.carried(path, location, "trainer.val_interval")
            elif key == "by_epoch":
                self.record.defaulted(path, location, "detcfg counts epochs")
            elif key == "val_interval":
                self.record.defaulted(path, location, "detcfg evaluates after each epoch")
            elif key == "val_begin" and value in (0, 1):
                self.record.defaulted(path, location, "detcfg evaluates from the first epoch on")
            else:
                self._unsupported(loop, "train_cfg", key)

    def _epochs(self, iterations: int, path: str, location: Location | None) -> int | None:
        """Iterations as epochs, which is what detcfg counts."""
        if self.steps is None:
            note = f"detcfg counts epochs: set trainer.epochs to {iterations:,} steps over those of your data"
            self.record.unsupported(path, location, note)
            return None
        epochs = max(1, round(iterations / self.steps))
        note = f"detcfg counts epochs: {iterations:,} steps are {iterations / self.steps:.1f}, rounded to {epochs}"
        self.record.unsupported(path, location, note)
        return epochs

    def _schedule(self, lr: float | None, values: dict[str, Any]) -> ScheduleConfig | None:
        rules: Any = self.data.get("param_scheduler")
        if isinstance(rules, Node):
            rules = [rules]
        if not (is_list(rules) or is_tuple(rules)):
            return None
        warmup: dict[str, Any] = {"warmup_iters": 0}
        made: ScheduleConfig | None = None
        for index, rule in enumerate(rules):
            path = f"param_scheduler.{index}"
            kind = rule.get("type") if isinstance(rule, Node) else None
            name = short_name(kind) if isinstance(kind, str) else ""
            location = rule.locations.get("type") if isinstance(rule, Node) else None
            if (
                name == "LinearLR"
                and not rule.get("by_epoch", True)
                and made is None
                and not rule.get("begin", 0)
            ):
                warmup = {"warmup_iters": rule.get("end", 0), "start_factor": rule.get("start_factor", 1 / 3)}
                for key, field in (("end", "warmup_iters"), ("start_factor", "start_factor")):
                    self.record.carried(f"{path}.{key}", rule.locations.get(key), f"trainer.schedule.{field}")
                self._rest_of(rule, path, ("end", "start_factor"), {"end_factor": (1, 1.0)})
            elif name == "MultiStepLR" and made is None:
                made = self._steps(rule, path)
            elif name == "CosineAnnealingLR" and made is None and lr:
                made = self._cosine(rule, lr, values, path)
            else:
                note = f"detcfg's schedules have no {name or 'such rule'} there"
                self.record.unsupported(path, location, note)
        schedule = made or ConstantConfig()
        return self.translator.made(
            type(schedule), _values(schedule) | warmup, Spot("param_scheduler", "trainer.schedule")
        )

    def _steps(self, rule: Node, path: str) -> MultiStepConfig | None:
        found: Any = rule.get("milestones", ())
        location = rule.locations.get("milestones")
        milestones = [m for m in found if type(m) is int] if is_list(found) or is_tuple(found) else []
        if not rule.get("by_epoch", True):
            epochs = [self._epochs(m, f"{path}.milestones", location) for m in milestones]
            milestones = [epoch for epoch in epochs if epoch is not None]
        else:
            milestones = [m * self.times for m in milestones]
            self.record.carried(f"{path}.milestones", location, "trainer.schedule.milestones")
        if "gamma" in rule:
            self.record.carried(f"{path}.gamma", rule.locations.get("gamma"), "trainer.schedule.gamma")
        self._rest_of(rule, path, ("milestones", "gamma"), {"begin": (0,)})
        values = {"milestones": tuple(milestones), "gamma": rule.get("gamma", 0.1)}
        return self.translator.made(MultiStepConfig, values, Spot(path, "trainer.schedule"))

    def _cosine(self, rule: Node, lr: float, values: dict[str, Any], path: str) -> CosineConfig:
        begin = rule["begin"] if type(rule.get("begin")) is int else 0
        least: float = rule["eta_min"] if is_number(rule.get("eta_min")) else 0
        ratio: float = rule["eta_min_ratio"] if is_number(rule.get("eta_min_ratio")) else least / lr
        location = rule.locations.get("type")
        if not rule.get("by_epoch", True):
            begin = self._epochs(begin, f"{path}.begin", location) or 0 if begin else 0
        else:
            begin *= self.times
        end: Any = rule.get("end")
        epochs: int = values.get("epochs", 12)
        if rule.get("by_epoch", True) and type(end) is int and end * self.times != epochs:
            note = f"detcfg's cosine ends with the training, after {epochs} epochs"
            self.record.unsupported(f"{path}.end", rule.locations.get("end"), note)
        for key, field in (
            ("begin", "begin"),
            ("eta_min", "eta_min_ratio"),
            ("eta_min_ratio", "eta_min_ratio"),
        ):
            if key in rule:
                self.record.carried(f"{path}.{key}", rule.locations.get(key), f"trainer.schedule.{field}")
        start, length = (rule[key] if type(rule.get(key)) is int else 0 for key in ("begin", "end"))
        self._rest_of(rule, path, ("begin", "eta_min", "eta_min_ratio"), {"T_max": (length - start, length)})
        values = {"begin": begin, "eta_min_ratio": round(float(ratio), 12)}
        return self.translator.made(CosineConfig, values, Spot(path, "trainer.schedule"))

    def _rest_of(
        self, rule: Node, path: str, taken: tuple[str, ...], same: dict[str, tuple[object, ...]]
    ) -> None:
        """The keys of a rule beside those that were taken; `same`: values that are detcfg's in any case."""
        for key, value in rule.items():
            if key in taken or key == "type":
                continue
            if key in ("by_epoch", "begin", "end", "convert_to_iter_based", "verbose") and key not in same:
                note = "the warm-up counts steps, the rest epochs, to the training's end"
                self._defaulted(rule, path, key, note)
            elif value in same.get(key, ()):
                self._defaulted(rule, path, key, "detcfg's schedules do so in any case")
            else:
                note = "detcfg's schedules have no such setting"
                self.record.unsupported(f"{path}.{key}", rule.locations.get(key), note)

    # Hooks and the rest

    def _hooks(self, values: dict[str, Any]) -> None:
        hooks: Any = self.data.get("default_hooks")
        for name, hook in hooks.items() if isinstance(hooks, Node) else ():
            path, location = f"default_hooks.{name}", hooks.locations.get(name)
            if name == "logger" and isinstance(hook, Node) and type(hook.get("interval")) is int:
                values["log_interval"] = hook["interval"]
                self.record.carried(
                    f"{path}.interval", hook.locations.get("interval"), "trainer.log_interval"
                )
            elif name == "checkpoint" and isinstance(hook, Node):
                self._checkpoint(hook, values)
            elif name in HOOKS or hook is None:
                self.record.defaulted(path, location, HOOKS.get(name, "there is none"))
            else:
                self.record.unsupported(
                    path, location, "detcfg has no hooks; override a method of its trainer in a subclass"
                )
        custom: Any = self.data.get("custom_hooks")
        for index, hook in enumerate(custom) if is_list(custom) or is_tuple(custom) else ():
            self._custom_hook(hook, f"custom_hooks.{index}", values)

    def _checkpoint(self, hook: Node, values: dict[str, Any]) -> None:
        for key, value in hook.items():
            path, location = f"default_hooks.checkpoint.{key}", hook.locations.get(key)
            if key == "save_best" and isinstance(value, str) and value in METRICS:
                values["save_best"] = METRICS[value]
                self.record.carried(path, location, "trainer.save_best")
            elif key in ("interval", "by_epoch", "max_keep_ckpts", "save_last", "rule", "save_best"):
                self.record.defaulted(path, location, "detcfg keeps the last and the best")
            elif key != "type":
                self.record.unsupported(path, location, "detcfg keeps the last and the best")

    def _custom_hook(self, hook: Any, path: str, values: dict[str, Any]) -> None:
        kind = hook.get("type") if isinstance(hook, Node) else hook
        name = short_name(kind) if isinstance(kind, str) else ""
        location = hook.locations.get("type") if isinstance(hook, Node) else None
        if name in HOOKS:
            self.record.defaulted(path, location, f"{name}: {HOOKS[name]}")
        elif name == "EMAHook" and isinstance(hook, Node):
            chosen = {k: hook[k] for k in ("momentum", "gamma") if is_number(hook.get(k))}
            values["ema"] = self.translator.made(EMAConfig, chosen, Spot(path, "trainer.ema"))
            for key in (key for key in hook if key != "type"):
                self._average(hook, key, path)
        elif name == "YOLOXModeSwitchHook":
            note = "the last epochs keep mosaic and mix-up; only their loss changes (l1_from_epoch)"
            self.record.unsupported(path, location, f"{name}: {note}")
        else:
            note = f"{name or 'a hook'}: detcfg has no hooks; override a method of its trainer in a subclass"
            self.record.unsupported(path, location, note)

    def _average(self, hook: Node, key: str, path: str) -> None:
        """The fields of the average of weights (EMA) that a hook gives."""
        value: Any = hook[key]
        kind = short_name(value) if isinstance(value, str) else value
        if key in ("momentum", "gamma") and is_number(value):
            self.record.carried(f"{path}.{key}", hook.locations.get(key), f"trainer.ema.{key}")
        elif key in ("priority", "strict_load", "begin_epoch", "begin_iter", "interval", "evaluate_on_ema"):
            same = {"begin_epoch": 0, "begin_iter": 0, "interval": 1, "evaluate_on_ema": True}
            if value == same.get(key, value):
                self._defaulted(hook, path, key, "detcfg averages after each step, and evaluates the average")
            else:
                self._unsupported(hook, path, key)
        elif (key, kind) in (("ema_type", "ExpMomentumEMA"), ("update_buffers", True)):
            self._defaulted(hook, path, key, "detcfg's average is of that kind")
        else:
            self._unsupported(hook, path, key)

    def _others(self, values: dict[str, Any]) -> None:
        data = self.data
        scale: Any = data.get("auto_scale_lr")
        if isinstance(scale, Node) and type(scale.get("base_batch_size")) is int:
            values["base_batch_size"] = scale["base_batch_size"]
            location = scale.locations.get("base_batch_size")
            self.record.carried("auto_scale_lr.base_batch_size", location, "trainer.base_batch_size")
        if isinstance(scale, Node) and "enable" in scale:
            note = (
                "detcfg scales the learning rate to the images in a step; trainer.auto_scale_lr turns it off"
            )
            self.record.defaulted("auto_scale_lr.enable", scale.locations.get("enable"), note)
        randomness: Any = data.get("randomness")
        if isinstance(randomness, Node) and type(randomness.get("seed")) is int:
            values["seed"] = randomness["seed"]
            self.record.carried("randomness.seed", randomness.locations.get("seed"), "trainer.seed")
        start: Any = data.get("load_from")
        if isinstance(start, str) and "://" in start:
            note = f"download {start} and give trainer.load_from its path"
            self.record.unsupported("load_from", data.locations.get("load_from"), note)
        elif isinstance(start, str):
            values["load_from"] = start
            self.record.carried("load_from", data.locations.get("load_from"), "trainer.load_from")

    def _defaulted(self, node: Node, path: str, key: str, note: str) -> None:
        self.record.defaulted(f"{path}.{key}", node.locations.get(key), note)

    def _unsupported(self, node: Node, path: str, key: str) -> None:
        self.record.unsupported(
            f"{path}.{key}", node.locations.get(key), "detcfg's trainer has no such setting"
        )


def _values(config: Config) -> dict[str, Any]:
    """The fields of a config, which are not resolved yet."""
    return {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
