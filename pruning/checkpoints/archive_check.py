"""Check the storage sizes that a checkpoint's pickle declares, without executing it.

PyTorch allocates each storage at the size that the pickle declares and fills it from the archive's record. A pickle
that declares more than the record holds would allocate memory for data that the file does not have.
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


def storage_faults(archive: zipfile.ZipFile, size_bytes: int) -> Iterator[str]:
    """Yield one sentence for every storage that an archive of `size_bytes` declares but does not hold."""
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
    """Return (storage class, key, elements) of every storage; nothing for an unreadable pickle."""
    with archive.open(name) as file:
        reader = _InertUnpickler(file)
        try:
            reader.load()
        except Exception:  # a pickle made to harm may fail in any way
            return []
    return reader.claims


class _Placeholder:
    """Stand-in for any object of a pickle; ignores its arguments."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an item of a list."""

    def extend(self, values: Any) -> None:
        """Ignore the items of a list."""

    def add(self, value: Any) -> None:
        """Ignore an item of a set."""


class _InertUnpickler(pickle._Unpickler):
    """Unpickler that executes nothing. Pure Python: the C version allocates as many memo slots as the pickle names."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.claims: list[tuple[str, str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Placeholder,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Record ("storage", class, key, location, elements), as torch.save writes it."""
        if isinstance(pid, tuple) and len(pid) >= 5 and isinstance(pid[4], int):
            self.claims.append((getattr(pid[1], "__name__", str(pid[1])), str(pid[2]), pid[4]))
        return None
