"""Find an experiment by path, by name or in a saved run."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Collection, Iterator
from hashlib import sha1
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

import attrs

from detcfg.config.base import Config, ConfigError, did_you_mean, nearest
from detcfg.config.serialize import from_data

C = TypeVar("C", bound=Config)

SAVED_NAME: Final = "experiment.json"
"""The file beside every checkpoint that holds the experiment."""

SHIPPED: Final = "detcfg.experiments"
"""The import name of the experiments that come with detcfg; a user may call a package of their own `experiments`."""
SHIPPED_FOLDER: Final = Path(__file__).parents[1] / "experiments"
"""In a checkout a link to the folder `experiments` beside `detcfg`."""

MAX_BYTES: Final = 16 * 2**20
"""A saved experiment is some 20 kB; anything above this is not one."""


def load(source: str | Path, base: type[C], allow: Collection[str] = ()) -> C:
    """The `Experiment` of a file, in the given state.

    Args:
        source: `experiments/double_head.py` (a path), `double_head` (a name: the file of that name
            in a folder `experiments` here or above, or among those that come with detcfg), or a saved
            run (its folder, or its `experiment.json`).
        base: What an `Experiment` derives from.
        allow: For a saved run: modules besides detcfg's whose classes may be imported.

    Raises:
        ConfigError: There is no such experiment, or it is wrong; the message says where.
    """
    path = Path(source)
    if path.suffix == ".json" or path.is_dir():
        return _load_saved(path / SAVED_NAME if path.is_dir() else path, allow, base)
    module = _import_file(path) if path.suffix == ".py" else _import_name(str(source))
    found: object = getattr(module, "Experiment", None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(
            f"{module.__file__} defines no class `Experiment` that derives from {base.__name__}. Write\n\n"
            "@frozen(kw_only=True)\nclass Experiment(parent.Experiment):\n    model: Model = Model()"
        )
    try:
        return found()
    except (TypeError, ValueError) as error:
        raise _located(error, Path(module.__file__ or "")) from None


def experiment_names() -> list[str]:
    """The names that `load` finds from here."""
    return sorted(
        {path.stem for folder in _folders() for path in folder.glob("*.py") if path.stem != "__init__"}
    )


def _load_saved(path: Path, allow: Collection[str], annotation: type[C]) -> C:
    if not path.is_file():
        raise ConfigError(f"There is no saved experiment at {path}.")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size:,} bytes, which no saved experiment has.")
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    try:
        return from_data(data, annotation, allow)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _folders() -> Iterator[Path]:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments").is_dir():
            yield folder / "experiments"
            break
    if SHIPPED_FOLDER.is_dir():
        yield SHIPPED_FOLDER


def _import_name(name: str) -> ModuleType:
    for folder in _folders():
        if (folder / f"{name}.py").is_file():
            return _import_file(folder / f"{name}.py")
    if not SHIPPED_FOLDER.is_dir():
        raise ConfigError(
            f"{SHIPPED_FOLDER} is no folder: this checkout was made without symbolic links, so the experiments that "
            "come with detcfg are missing. Clone with `git clone -c core.symlinks=true`, or install the wheel."
        )
    where = "A name is the file's without .py, in a folder `experiments`; or give a path that ends in .py."
    raise ConfigError(f"There is no experiment {name!r}. {did_you_mean(name, experiment_names())} {where}")


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        near = nearest(path.stem, experiment_names())
        hint = "Correct the path." if near is None else f"Did you mean {near!r}?"
        raise ConfigError(f"There is no file {path}. {hint}")
    try:
        return _import_shipped(path) or _import_in_package(path) or _import_alone(path)
    except (ConfigError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        raise ConfigError(f"{place}: {error.msg}\n    {(error.text or '').strip()}") from None
    except Exception as error:  # noqa: BLE001 - whatever a person's file does wrong is shown at its line
        raise _located(error, path) from None


def _import_shipped(path: Path) -> ModuleType | None:
    """Import an experiment that comes with detcfg by the name that users import it by."""
    if path.parent != SHIPPED_FOLDER.resolve():
        return None
    return import_module(f"{SHIPPED}.{path.stem}")


def _import_in_package(path: Path) -> ModuleType | None:
    """Import `experiments/x.py` as `experiments.x` where that is what Python itself would find."""
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    if len(names) == 1:
        return None
    name = ".".join(names)
    if str(folder) not in sys.path and names[0] not in sys.modules and find_spec(names[0]) is None:
        sys.path.append(str(folder))
    return import_module(name) if _is_at(name, path) else None


def _is_at(name: str, path: Path) -> bool:
    """Whether `import name` is an import of this file."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was made by hand
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _import_alone(path: Path) -> ModuleType:
    """Import a file that is in no package; it and files beside it can be imported as they are named.

    Where its name is taken, as by another `mine.py`, it gets one of its own.
    """
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    if _is_at(path.stem, path):
        return import_module(path.stem)
    name = f"{path.stem}_at_{sha1(str(path).encode(), usedforsecurity=False).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _located(error: Exception, path: Path) -> ConfigError:
    """An error of a person's file with the file, the line and the nearest valid name."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).resolve() == path.resolve()]
    outside = [f for f in frames if not _is_library(f.filename)]
    frame = next(reversed(outside or own), None)
    place = f"{frame.filename}:{frame.lineno}: " if frame else f"{path}: "
    message = _explained(error)
    line = f"\n    {frame.line}" if frame and frame.line else ""
    return ConfigError(f"{place}{message}{line}")


def _is_library(filename: str) -> bool:
    parts = Path(filename).parts
    return "site-packages" in parts or filename.startswith("<") or Path(filename).is_relative_to(_HERE)


_HERE: Final = Path(__file__).parents[1]


def _explained(error: Exception) -> str:
    text = str(error.args[0]) if error.args else str(error)
    unexpected = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if unexpected is None:
        return text if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {error}"
    cls_name, field = unexpected.groups()
    fields = {
        name for cls in _subclasses(Config) if cls.__name__ == cls_name for name in attrs.fields_dict(cls)
    }
    return f"{cls_name} has no field {field!r}. {did_you_mean(field, fields)}"


def _subclasses(cls: type[Config]) -> Iterator[type[Config]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
