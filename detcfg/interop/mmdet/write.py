"""An imported config as the file that a person would have written.

The nearest experiment is its parent, and only what differs is written; what has no counterpart is a comment.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

import attrs
from attrs import evolve, frozen

from detcfg.config.base import UNSET, Config
from detcfg.config.diff import diff
from detcfg.config.moved import SHIPPED
from detcfg.config.serialize import lowered
from detcfg.config.types import declared_types, matches
from detcfg.data.config import DataConfig
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.data import Location, in_comment, in_docstring
from detcfg.interop.mmdet.derive import at
from detcfg.interop.mmdet.experiment import Imported
from detcfg.interop.mmdet.layout import (
    INDENT,
    WIDTH,
    Imports,
    Layout,
    Raw,
    constant,
    long_tuples,
    same,
    written,
)
from detcfg.interop.mmdet.record import Entry, Status
from detcfg.interop.mmdet.stub_source import stub_source
from detcfg.interop.mmdet.stubs import is_stub

FALLBACK_DATA: Final = "faster_rcnn"
"""Whose data an experiment gets whose source has none."""


@frozen(kw_only=True)
class Parent:
    """An experiment that another may inherit from."""

    name: str
    module: str
    """`detcfg.experiments.double_head`."""
    experiment: ExperimentConfig

    @property
    def reference(self) -> str:
        """What the importing file calls its module."""
        return self.module.rpartition(".")[2]


@frozen
class _Change:
    """One field of a class body."""

    name: str
    annotation: Any
    value: object
    evolved: str | None = None
    """The expression to evolve, where that is shorter than to write all."""
    changes: tuple[tuple[str, object], ...] = ()


ALONE: Final = 200
"""Characters that it is worth to say by a parent of what family an experiment is."""


def write_experiment(imported: Imported, parents: Mapping[str, ExperimentConfig]) -> str:
    """The text of the experiment.

    Args:
        imported: The config.
        parents: The experiments that it may inherit from, by name.
    """
    known = [
        Parent(name=name, module=type(found).__module__, experiment=found) for name, found in parents.items()
    ]
    fitting = [parent for parent in known if _may_inherit(imported, parent)]
    texts = [(parent, _Writer(imported, parent, known).text()) for parent in [*fitting, None]]
    return min(texts, key=lambda pair: _cost(*pair))[1]


def _cost(parent: Parent | None, text: str) -> tuple[int, int, str]:
    """How much there is to write; of equals, the nearest to the root of all experiments."""
    if parent is None:
        return len(text) + ALONE, 0, ""
    names = len(re.findall(rf"\b{parent.reference}\b", text))
    return len(text) - names * len(parent.reference), len(type(parent.experiment).__mro__), parent.name


def _may_inherit(imported: Imported, parent: Parent) -> bool:
    """Whether the parent's fields take the values, and its model is of the same kind."""
    experiment = parent.experiment
    model = type(experiment.model)
    if not issubclass(type(imported.model), lowered(model)) and lowered(model) is not type(imported.model):
        return False
    if lowered(model) is not type(imported.model) or not parent.module.startswith(f"{SHIPPED}."):
        return False
    types = declared_types(model)
    taken = all(
        matches(value, types[field.name])
        for field in attrs.fields(type(imported.model))
        if (value := getattr(imported.model, field.name)) is not UNSET
    )
    return taken and not _undoes(imported.model, experiment)


def _undoes(model: Config, parent: ExperimentConfig) -> bool:
    """Whether a model has what the grandparent has, where the parent has another component.

    Cascade RPN without its RPN is Faster R-CNN, however little there would be to write.
    """
    cls = cast("Any", type(parent).__mro__[1])
    if cls is ExperimentConfig or not issubclass(cls, ExperimentConfig):
        return False
    above = cast("Callable[[], ExperimentConfig]", cls)()
    return any(
        _kind(at(model, change.path)) is _kind(change.old)
        for change in diff(above.model, parent.model)
        if change.path and _kind(change.old) is not _kind(change.new)
    )


def _kind(value: object) -> type | None:
    """The class of a component, or that class itself; None for anything else."""
    if isinstance(value, type):
        return value
    return type(value) if isinstance(value, Config) else None


class _Writer:
    def __init__(self, imported: Imported, parent: Parent | None, known: Iterable[Parent]) -> None:
        self.imported, self.parent = imported, parent
        self.data_parent = parent or next((p for p in known if p.name == FALLBACK_DATA), None)
        self.stubs = list(dict.fromkeys(_stubs((imported.model, imported.data, imported.trainer))))
        self.imports = Imports(local=frozenset(self.stubs))
        self.own_model = True
        self.layout = Layout(self.imports)

    def text(self) -> str:
        self.imports.use("attrs", "frozen")
        model = self._body(self._model_changes())
        self.own_model = bool(model) or self.parent is None
        experiment = self._body(self._experiment_changes())
        constants = self._constants()
        stubs = [stub_source(stub, self.layout) for stub in self.stubs]
        unsupported = list(self.imported.record.of(Status.UNSUPPORTED))
        about_model = [entry for entry in unsupported if entry.path.startswith("model")]
        others = [entry for entry in unsupported if not entry.path.startswith("model")]
        parts = stubs
        if self.own_model:
            parts.append(self._comments(about_model) + self._class("Model", self._base("model"), model))
        else:
            others = [*about_model, *others]
        parts.append(self._comments(others) + self._class("Experiment", self._base("experiment"), experiment))
        head = [f'"""{self._docstring()}"""', "", "from __future__ import annotations", ""]
        lines = [*head, *self.imports.lines()]
        if constants:
            lines += ["", *constants]
        return "\n".join(lines) + "\n\n\n" + "\n\n\n".join(parts) + "\n"

    def _docstring(self) -> str:
        path = self.imported.source.path
        name = f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem
        return f"From MMDetection's {in_docstring(name)}."

    def _constants(self) -> list[str]:
        """Long lists of names, written once."""
        if self.imports.constants:
            self.imports.use("typing", "Final")
        return [constant(value, name) for value, name in self.imports.constants.items()]

    # Classes

    def _base(self, what: str) -> str:
        if self.parent is not None:
            self.imports.use(self.parent.module.rpartition(".")[0], self.parent.reference)
            return f"{self.parent.reference}.{'Model' if what == 'model' else 'Experiment'}"
        return self.imports.cls(type(self.imported.model) if what == "model" else ExperimentConfig)

    def _class(self, name: str, base: str, body: str) -> str:
        return f"@frozen(kw_only=True)\nclass {name}({base}):\n{body or ' ' * INDENT + 'pass'}"

    def _body(self, changes: Iterable[_Change | str]) -> str:
        return "\n".join(
            " " * INDENT + (change if isinstance(change, str) else self._statement(change))
            for change in changes
        )

    def _statement(self, change: _Change) -> str:
        start = f"{change.name}: {self.layout.annotation(change.annotation)} = "
        column = INDENT + len(start)
        if change.evolved is None:
            return start + self.layout.value(change.value, column, INDENT)
        if not change.changes:
            return start + change.evolved
        self.imports.use("detcfg.config", "evolve")
        arguments = [("", Raw(change.evolved)), *change.changes]
        return start + self.layout.call("evolve", arguments, column, INDENT)

    def _model_changes(self) -> Iterator[_Change]:
        model = self.imported.model
        types = declared_types(type(model) if self.parent is None else type(self.parent.experiment.model))
        self._name_constants(model)
        for field in attrs.fields(type(model)):
            value: object = getattr(model, field.name)
            if field.name == "num_classes":
                continue  # that of the data
            old = field.default if self.parent is None else getattr(self.parent.experiment.model, field.name)
            if value is UNSET or same(value, old):
                continue
            yield self._evolved(_Change(field.name, types[field.name], value), old)

    def _experiment_changes(self) -> Iterator[_Change | str]:
        imported = self.imported
        inherited = self.parent.experiment if self.parent is not None else None
        if self.own_model:
            yield "model: Model = Model()"
        data = imported.data
        self._name_constants(data)
        if data is None and inherited is None:
            data = None if self.data_parent is None else self.data_parent.experiment.data
        if data is not None and (inherited is None or data != inherited.data):
            yield self._nearest("data", DataConfig, data)
        trainer = type(imported.trainer)()
        if inherited is not None:
            trainer = inherited.trainer
        if imported.trainer != trainer:
            yield self._nearest("trainer", type(imported.trainer), imported.trainer)

    def _evolved(self, change: _Change, old: object) -> _Change:
        """The parent's component with what differs, where that is shorter and its annotation has the fields."""
        value, cls = change.value, change.annotation
        if self.parent is None or not isinstance(value, Config) or type(old) is not type(value):
            return change
        changes = tuple(
            (field.name, new)
            for field in attrs.fields(type(value))
            if not same(new := getattr(value, field.name), getattr(old, field.name))
        )
        known = isinstance(cls, type) and {name for name, _ in changes} <= set(declared_types(cls))
        if not known or self._size(changes) >= self._size(written(value)):
            return change
        return evolve(change, evolved=f"{self.parent.reference}.Model().{change.name}", changes=changes)

    def _nearest(self, name: str, cls: type[Config], value: Config) -> _Change:
        """The shorter one: the parent's evolved, or all that is not default."""
        parent = self.data_parent
        old: Config | None = None if parent is None else getattr(parent.experiment, name)
        if parent is None or old is None or type(old) is not type(value):
            return _Change(name, cls, value)
        changes = tuple(
            (field.name, new)
            for field in attrs.fields(type(value))
            if not same(new := getattr(value, field.name), getattr(old, field.name))
        )
        whole = written(value)
        if self._size(changes) >= self._size(whole):
            return _Change(name, cls, value)
        self.imports.use(parent.module.rpartition(".")[0], parent.reference)
        return _Change(name, cls, value, f"{parent.reference}.Experiment().{name}", changes)

    def _size(self, values: Iterable[tuple[str, object]]) -> int:
        scratch = Layout(Imports(local=self.imports.local))
        return len(scratch.call("x", values, 0, 0))

    def _name_constants(self, config: Config | None) -> None:
        for value in long_tuples(config):
            if value not in self.imports.constants:
                number = len(self.imports.constants)
                self.imports.constants[value] = "CLASSES" if number == 0 else f"NAMES_{number}"

    # Comments

    def _comments(self, entries: Iterable[Entry]) -> str:
        """Comments that list what has no counterpart, and where it stands."""
        lines: list[str] = []
        stubs = {missing.path for missing in self.imported.missing}
        written: set[tuple[Location | None, str, str]] = set()
        for entry in entries:
            same_line = (entry.location, entry.path.partition(".")[2], entry.note)
            if entry.location is not None and same_line in written:
                continue  # a loader that stands for another
            written.add(same_line)
            if entry.path in stubs and any(entry.path.startswith(f"{path}.") for path in stubs):
                continue  # the stub around it has it
            location = "" if entry.location is None else f" ({self._shown(entry.location)})"
            text = in_comment(f"{entry.path}{location}: {entry.note}")
            lines += textwrap.wrap(
                text, WIDTH, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False
            )
        return "# Not supported:\n" + "".join(f"{line}\n" for line in lines) if lines else ""

    def _shown(self, location: Location) -> str:
        if location.file == self.imported.source.path:
            return f"line {location.line}"
        return f"{location.file.name}:{location.line}"


def _stubs(value: object) -> Iterator[type[Config]]:
    """The classes of stubs in a value, those that others need first."""
    if isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            yield from _stubs(item)
    elif isinstance(value, Config):
        for field in attrs.fields(type(value)):
            yield from _stubs(getattr(value, field.name))
            yield from _stubs(field.default)
        if is_stub(type(value)):
            yield type(value)


def as_written(imported: Imported, parent: ExperimentConfig) -> ExperimentConfig:
    """The experiment that the written file gives, with the data of `parent` where the source has none."""
    data = imported.data or parent.data
    return evolve(parent, model=imported.model, data=data, trainer=imported.trainer)
