"""Reading annotation files, with errors that say what to do."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, cast

from detcfg.data.errors import DataError

MAX_DIGITS: Final = 18
"""A whole number of more does not fit into 64 bits."""
MAX_NUMBER: Final = 1e15
"""A coordinate beyond this is none, and as a whole number does not fit into an array."""
MAX_SIDE: Final = 100_000
"""Pixels of an image in a row or a column: drawing a polygon takes memory in proportion."""


def read_text(path: str | Path, remedy: str) -> str:
    """A text file's contents.

    Args:
        path: The file.
        remedy: What to do if it is absent, as a sentence.

    Raises:
        DataError: The file is absent or unreadable.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file. {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the file cannot be read: {error}. {remedy}") from None


def read_json(path: str | Path, remedy: str) -> object:
    """What a json file holds; see `read_text`.

    Raises:
        DataError: The file is absent, unreadable or no json.
    """
    text = read_text(path, remedy)
    try:
        return json.loads(text, parse_int=_bounded)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno}, column {error.colno}: this is not json: {error.msg}. "
            "Write the file again; it may have been cut off."
        ) from None
    except RecursionError:
        raise DataError(f"{path}: the json is nested too deeply to be annotations. {remedy}") from None


def _bounded(digits: str) -> int | float:
    """A whole number; as a float if it is beyond what arrays hold, so that it passes for no id or size."""
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


def problem_of_size(height: object, width: object) -> str:
    """Why an image cannot have this size; empty if it can."""
    sides = [side for side in (whole_number(height), whole_number(width)) if side is not None]
    if len(sides) == 2 and max(sides) > MAX_SIDE:
        return f"its height and width are {height} and {width}, and at most {MAX_SIDE} pixels are read"
    if len(sides) < 2 or min(sides) < 1:
        return f"its height and width are {height!r} and {width!r}, and have to be whole numbers of pixels"
    return ""


def is_absent(value: object) -> bool:
    """Whether a value is not given: null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def whole_number(value: object) -> int | None:
    """A whole number, which some tools write as a float (1.0); None if it is none."""
    if type(value) is int:
        return value
    # A number of more than 53 bits has lost digits as a float.
    if type(value) is float and abs(value) < 2**53 and value.is_integer():
        return int(value)
    return None


def flag(value: object) -> bool | None:
    """A yes or no, which some tools write as a text ("0", "False"); None if it is neither.

    Any number but 0 is a yes, and what is absent or empty a no.
    """
    if value is None or type(value) is bool:
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = float(word)
        except ValueError:
            return None
    return value != 0 if isinstance(value, int | float) and not math.isnan(value) else None


_WORDS: Final = {"": False, "false": False, "no": False, "true": True, "yes": True}


def files_in(folder: str | Path, remedy: str) -> dict[str, str]:
    """The names of the files of a folder by themselves, so that one listing answers for them all.

    Raises:
        DataError: There is no such folder.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.path for entry in entries}
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed: {error.strerror}. {remedy}") from None


def records(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under `key`; what is no object in it reads as an empty one."""
    value = data.get(key)
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", entry) if isinstance(entry, dict) else {} for entry in entries]


def identifier(entry: dict[str, Any], name: str = "id") -> Any:
    """The id under `name`, or None if it is not one: ids are whole numbers or texts."""
    value = entry.get(name)
    return value if type(value) in (int, str) else whole_number(value)


def other_type(value: object, known: Collection[object]) -> str:
    """What an id should be that is written as a text where the known ones are numbers, or the other way round.

    As the end of a sentence that begins with its name; empty if that is not its fault.
    """
    if isinstance(value, str):
        number = whole_number(_float(value))
        return f"is the text {value!r}, and should be the number {number}" if number in known else ""
    number = whole_number(value)
    return f"is the number {number}, and should be the text '{number}'" if str(number) in known else ""


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def category_of_name(data: dict[str, Any], categories: Mapping[int, Mapping[str, Any]]) -> int | None:
    """Which of the categories of one name is meant, by their ids; None if that is open.

    Roboflow adds a root category, whose supercategory is "none", which has no objects and sometimes the name
    of another.
    """
    own = set(categories)
    if len(own) > 1:
        used = {identifier(annotation, "category_id") for annotation in records(data, "annotations")} & own
        own = used or {n for n, category in categories.items() if category.get("supercategory") != "none"}
    return own.pop() if len(own) == 1 else None


def is_panoptic(data: dict[str, Any]) -> bool:
    """Whether annotations are in COCO's panoptic format, whose entries are images with segments."""
    return any("segments_info" in entry for entry in records(data, "annotations")[:1])


PANOPTIC: Final = (
    "these are annotations in COCO's panoptic format (segments_info), which name no boxes. Convert them to its "
    "detection format, as panopticapi's panoptic2detection_coco_format.py does."
)


def four_numbers(value: object) -> tuple[float, ...]:
    """The numbers of a box; NaN where there are no four numbers."""
    box = cast("list[object]", value) if isinstance(value, list) else []
    if len(box) != 4 or any(type(number) not in (float, int) for number in box):
        return (math.nan,) * 4
    return tuple(cast("list[float]", box))


def place_of(entries: list[dict[str, Any]], index: int, kind: str = "annotation") -> str:
    """How to find an entry of a list: by its id if it has one."""
    number = entries[index].get("id")
    return f"{kind} {index} of the list" if number is None else f"{kind} {number}"
