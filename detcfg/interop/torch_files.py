"""Read what `torch.save` wrote, without running any of it: tensors, plain data, and inert rest.

Both layouts are read: the zip archive of PyTorch 1.6 and later, and the one before it, in which most of
MMDetection's published checkpoints are.
"""

from __future__ import annotations

import mmap
import struct
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final, Protocol, TypeGuard, cast

import torch
from attrs import define, frozen
from torch import Tensor

from detcfg.interop.pickles import Call, CheckpointError, Inert, read_pickle

MAX_PICKLE: Final = 2**29
"""Bytes of the pickle in an archive; it holds names and shapes, not weights."""
SHARING: Final = 8
"""Tensors may take so many times the file: the heads of a DETR's layers are often one and the same."""
LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
STORAGES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
NUMBERS: Final = {
    "f8": ("d", torch.float64),
    "f4": ("f", torch.float32),
    "f2": ("e", torch.float16),
    "i8": ("q", torch.int64),
    "i4": ("i", torch.int32),
    "i2": ("h", torch.int16),
    "i1": ("b", torch.int8),
    "u1": ("B", torch.uint8),
    "b1": ("?", torch.bool),
}
"""numpy's name of a kind of number: struct's and torch's."""


@define(eq=False, repr=False)
class Storage:
    """Numbers in the file."""

    key: str
    dtype: torch.dtype
    size: int
    """Elements."""


@frozen(eq=False, repr=False)
class TensorRecord:
    """A tensor that is still in the file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __repr__(self) -> str:
        return f"<tensor {'x'.join(map(str, self.shape))}>"


class Bytes(Protocol):
    def __call__(self, storage: Storage) -> bytearray: ...


@define(eq=False)
class TorchFile:
    """What a file holds; its tensors are read when asked for."""

    path: Path
    value: object
    """Dicts, lists, tuples and plain values, `TensorRecord`s and `Inert`s."""
    bytes_of: Bytes
    left: int
    """Bytes that tensors may still take; many names may stand for the same stored numbers."""

    def tensor(self, record: object) -> Tensor | None:
        """The tensor of a record (or of a numpy array), in new memory; None of anything else."""
        if isinstance(record, Inert):
            return array(record)
        if not isinstance(record, TensorRecord):
            return None
        storage, shape, stride = record.storage, record.shape, record.stride
        count = 1
        for length in shape:
            count *= length
        reach = record.offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1
        if count > storage.size or (count and reach > storage.size):
            raise CheckpointError(f"{self.path}: a tensor {shape} is larger than what is stored of it.")
        self.left -= count * storage.dtype.itemsize
        if self.left < 0:
            raise CheckpointError(f"{self.path}: its tensors are far larger than the file.")
        if not count:
            return torch.empty(shape, dtype=storage.dtype)
        flat = torch.frombuffer(self.bytes_of(storage), dtype=storage.dtype)
        return flat.as_strided(shape, stride, record.offset).clone(memory_format=torch.contiguous_format)


def read_torch_file(path: Path) -> TorchFile:
    """Read what `torch.save` wrote.

    Raises:
        CheckpointError: It is something else, or broken.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _read_legacy(path, mapped)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is no checkpoint: {error}") from None


def _read_archive(path: Path) -> TorchFile:
    size = path.stat().st_size
    limit = SHARING * size
    archive = zipfile.ZipFile(path)  # stays open as long as tensors may be asked for
    names = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(names) != 1:
        raise CheckpointError(f"{path} is a zip archive, but not one of torch.save.")
    folder = names[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist():
        order = _entry(archive, f"{folder}byteorder", 16).decode("ascii", "replace")
        if order != sys.byteorder:
            raise CheckpointError(f"{path} was written on a {order}-endian machine, which is not read.")

    def bytes_of(storage: Storage) -> bytearray:
        length = storage.size * storage.dtype.itemsize
        try:
            data = _entry(archive, f"{folder}data/{storage.key}", size)
        except (ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path}: {error}") from None
        if len(data) < length:
            raise CheckpointError(f"{path}: the data of tensor {storage.key} ends early.")
        return bytearray(memoryview(data)[:length])

    text = BytesIO(_entry(archive, names[0], MAX_PICKLE))
    value = read_pickle(text, str(path), calls=CALLS, persistent=_storages())
    return TorchFile(path=path, value=value, bytes_of=_remembering(bytes_of, limit), left=limit)


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"the archive lacks {name}") from None
    if info.file_size > limit or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} in it is compressed or too large")
    return archive.read(info)


def _read_legacy(path: Path, mapped: mmap.mmap) -> TorchFile:
    name, limit = str(path), SHARING * len(mapped)
    if mapped[:1] != b"\x80" or read_pickle(mapped, name) != LEGACY_MAGIC:
        raise CheckpointError(f"{path} is no checkpoint of torch.save.")
    for _ in ("protocol", "system"):
        read_pickle(mapped, name)
    known: dict[str, Storage] = {}
    value = read_pickle(mapped, name, calls=CALLS, persistent=_storages(known))
    keys = read_pickle(mapped, name)
    offsets: dict[str, int] = {}
    for key in cast("list[object]", keys) if isinstance(keys, list) else []:
        storage = known.get(str(key))
        if storage is None:
            raise CheckpointError(f"{path}: its list of tensors is broken.")
        (count,) = struct.unpack("<q", mapped.read(8))
        offsets[storage.key] = mapped.tell()
        if count < storage.size or mapped.tell() + count * storage.dtype.itemsize > len(mapped):
            raise CheckpointError(f"{path}: the data of tensor {storage.key} ends early.")
        mapped.seek(count * storage.dtype.itemsize, 1)

    def bytes_of(storage: Storage) -> bytearray:
        if storage.key not in offsets:
            raise CheckpointError(f"{path}: the data of tensor {storage.key} is missing.")
        with path.open("rb") as file:
            file.seek(offsets[storage.key])
            return bytearray(file.read(storage.size * storage.dtype.itemsize))

    return TorchFile(path=path, value=value, bytes_of=_remembering(bytes_of, limit), left=limit)


def _remembering(read: Bytes, allowed: int) -> Bytes:
    """Keep the last storage, for tensors that share one follow each other; read `allowed` bytes in all."""
    last: list[tuple[Storage, bytearray]] = []
    spent = 0

    def remembered(storage: Storage) -> bytearray:
        nonlocal spent
        if not last or last[0][0] is not storage:
            spent += storage.size * storage.dtype.itemsize
            if spent > allowed:
                raise CheckpointError("The tensors of the checkpoint are far larger than its file.")
            last[:] = [(storage, read(storage))]
        return last[0][1]

    return remembered


def _storages(known: dict[str, Storage] | None = None) -> Callable[[object], object]:
    """Persistent ids, ("storage", type, key, device, size, …), to `Storage`s."""
    made = {} if known is None else known

    def storage(identity: object) -> object:
        if not isinstance(identity, tuple):
            return Inert("torch.storage")
        parts = cast("tuple[object, ...]", identity)
        match parts:
            case ("storage", Inert(name=name, arguments=None), str(key), _, int(size), *view) if size >= 0:
                dtype = STORAGES.get(name.rpartition(".")[2])
                if dtype is None or (view and view[0] is not None):
                    return Inert(name, parts)
                return made.setdefault(key, Storage(key, dtype, size))
            case _:
                return Inert("torch.storage", parts)

    return storage


def _numbers(value: object) -> tuple[int, ...]:
    values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (None,)
    if not all(type(item) is int and 0 <= item < 2**62 for item in values) or len(values) > 32:
        raise TypeError("not a shape")
    return cast("tuple[int, ...]", values)


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> TensorRecord:
    if not isinstance(storage, Storage):
        raise TypeError("not a storage")
    (start,) = _numbers((offset,))
    sizes, steps = _numbers(shape), _numbers(stride)
    if len(sizes) != len(steps):
        raise TypeError("not a shape")
    return TensorRecord(storage, start, sizes, steps)


def _parameter(data: object, *_: object) -> object:
    if not isinstance(data, TensorRecord):
        raise TypeError("not a tensor")
    return data


def _typed(_function: object, _type: object, arguments: object, *_: object) -> object:
    """A subclass of Tensor, as the tensor."""
    if not isinstance(arguments, tuple):
        raise TypeError("not a tensor")
    return _tensor(*cast("tuple[object, ...]", arguments))


def _size(values: object = ()) -> tuple[int, ...]:
    return _numbers(tuple(cast("list[object]", values)) if isinstance(values, list) else values)


def _scalar(dtype: object, data: object) -> float:
    """A numpy scalar as Python's number."""
    order, (code, _) = _dtype(dtype)
    if not isinstance(data, bytes):
        raise TypeError("not a number")
    try:
        number: float = struct.unpack(order + code, data)[0]
    except struct.error:
        raise TypeError("not a number") from None
    return number


def _items(value: object, least: int) -> tuple[object, ...]:
    items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    if len(items) < least:
        raise TypeError("too few values")
    return items


def _dtype(dtype: object) -> tuple[str, tuple[str, torch.dtype]]:
    """Byte order and kind of a pickled numpy dtype, whose state is (version, order, …)."""
    if not isinstance(dtype, Inert) or dtype.name != "numpy.dtype":
        raise TypeError("not a kind of number")
    kind, order = _items(dtype.arguments, 1)[0], _items(dtype.state, 2)[1]
    if not isinstance(kind, str) or kind not in NUMBERS:
        raise TypeError("not a kind of number")
    return (str(order) if order in ("<", ">") else "="), NUMBERS[kind]


def is_array(value: object) -> TypeGuard[Inert]:
    """Whether a value is a pickled numpy array."""
    return isinstance(value, Inert) and value.name.endswith("multiarray._reconstruct")


def array(record: Inert) -> Tensor | None:
    """A pickled numpy array of numbers as a tensor; None if it is something else."""
    if not is_array(record):
        return None
    try:
        _, shape, dtype, fortran, data = _items(record.state, 5)
        order, (_, kind) = _dtype(dtype)
        if fortran or order == ">" or not isinstance(data, bytes):
            return None
        flat = torch.frombuffer(bytearray(data), dtype=kind) if data else torch.empty(0, dtype=kind)
        return flat.reshape(_numbers(shape))
    except (TypeError, ValueError, RuntimeError):
        return None


CALLS: Final[dict[str, Call]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.Size": _size,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}
