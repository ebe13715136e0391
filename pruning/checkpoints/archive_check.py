"""What a checkpoint's pickle claims, read without believing it.

PyTorch makes a storage of the size that the pickle names and fills it from the archive's record. A pickle that names
more than the record holds asks for memory that is not in the file.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from typing import Any

SIZES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage", "QInt8Storage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
"""Bytes of one element, by the name of its storage class."""
_UNFOLDS = 4
"""torch.save stores without compression; an archive that unfolds to more than so many times its size is a bomb."""
_SPARE = 1_000_000


def lies(archive: zipfile.ZipFile, size_bytes: int) -> Iterator[str]:
    """Everything that an archive of `size_bytes` claims and does not hold, one sentence each."""
    unfolded = sum(entry.file_size for entry in archive.infolist())
    if unfolded > _UNFOLDS * size_bytes + _SPARE:
        yield f"it unfolds from {size_bytes:,} to {unfolded:,} bytes"
        return
    pickles = [entry.filename for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
    for name in pickles:
        yield from _false_storages(archive, name)


def _false_storages(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    folder = name.removesuffix("data.pkl")
    held = {entry.filename: entry.file_size for entry in archive.infolist()}
    for kind, key, count in _claims(archive, name):
        claimed, found = SIZES.get(kind, 1) * count, held.get(f"{folder}data/{key}", 0)
        if claimed > found:
            yield f"tensor {key} claims {claimed:,} bytes, the file holds {found:,}"


def _claims(archive: zipfile.ZipFile, name: str) -> list[tuple[str, str, int]]:
    """(storage class, key, elements) of every storage; nothing for a pickle that cannot be read: loading says it."""
    with archive.open(name) as file:
        reader = _Inert(file)
        try:
            reader.load()
        except Exception:  # a pickle made to harm may fail in any way
            return []
    return reader.claims


class _Nothing:
    """Stands for any object of a pickle: takes what it is given and does nothing with it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As a list."""

    def extend(self, values: Any) -> None:
        """As a list."""

    def add(self, value: Any) -> None:
        """As a set."""


class _Inert(pickle._Unpickler):
    """Runs nothing. In Python: the one in C makes room for as many memos as the pickle likes to name."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.claims: list[tuple[str, str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Nothing,), {})

    def persistent_load(self, pid: Any) -> Any:
        """("storage", class, key, location, elements), as torch.save writes it."""
        if isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[4], int):
            self.claims.append((getattr(pid[1], "__name__", str(pid[1])), str(pid[2]), pid[4]))
        return None
