"""Read a checkpoint's pickle without executing anything in it, and without allocating what it only claims to hold.

This comes before anything else that opens a checkpoint, and needs no PyTorch. Every class and function that the pickle
names is replaced by an inert object. What an honest file never has is refused: more steps than a network needs, a
storage larger than its record, a tensor larger than its storage, a layer that is made by a call with sizes, an archive
that unfolds. PyTorch's own loader would allocate all of these before it finds a fault.
"""

from __future__ import annotations

import io
import math
import pickle
import stat
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from pruning.errors import CheckpointError, first_line

SIZES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage", "QInt8Storage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
"""Bytes of one element, by the name of its storage class."""
MAX_PICKLE_BYTES = 32_000_000
"""Of the pickle alone, without weights: yolov8n has 0.1 MB."""
MAX_STEPS = 500_000
"""Opcodes of the pickle: yolov8n has 40,000, the largest models five times as many."""
MAX_NAMES = 5_000
"""Different classes and functions: yolo11n names 29."""
MAX_DIRECTORY_BYTES = 2_000_000
"""Of the archive's list of records, about 100 bytes each: the largest networks have 2,000, twice that in training."""
MAX_NUMBER_BITS = 2040
"""Of a whole number: 255 bytes, the most that the opcode LONG1 can announce."""
MAX_KEY_ITEMS = 100
"""Of a tuple that is a key: its hash is computed anew each time."""
_UNFOLDS = 4
"""torch.save stores without compression; an archive that unfolds to more than so many times its size is a bomb."""
_SPARE_BYTES = 1_000_000
_SPARE_ELEMENTS = 1_000_000
"""Elements that tensors may have beyond their storages: small ones are expanded with a stride of 0."""
_BUILTINS = ("builtins", "__builtin__")
"""The second is how protocol 2 writes the first."""
_HASHING = {**dict.fromkeys(_BUILTINS, ("set", "frozenset")), "collections": ("Counter",)}
"""Module -> classes that PyTorch's loader calls, and that hash the items of their argument."""
NOT_ZIP = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)
"""zipfile says NotImplementedError of a compression that it does not know, RuntimeError of an encrypted member."""


class HarmfulCheckpoint(CheckpointError):
    """A file that would exhaust memory or time: damaged, or made to."""


@dataclass(frozen=True)
class Named:
    """What a pickle names by module and name: a class or a function, as data."""

    module: str
    name: str


class Inert:
    """Stand-in for any object of a pickle.

    Attributes:
        named: its class, or the function that would have made it.
        arguments: what the function would have been called with.
        state: what would have become its attributes.
    """

    named = Named("", "")

    def __init__(self, *arguments: Any, **_: Any) -> None:
        self.arguments = arguments
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an item of a list."""

    def extend(self, values: Any) -> None:
        """Ignore the items of a list."""

    def add(self, value: Any) -> None:
        """Ignore an item of a set."""


@dataclass(frozen=True)
class Storage:
    """A record of the archive as the pickle declares it."""

    kind: str
    key: str
    elements: int


def read_inert(path: Path) -> Any:
    """Return the document of a checkpoint, made of plain values and `Inert` objects; None if its pickle is damaged.

    Raises:
        HarmfulCheckpoint: it would exhaust memory or time.
        CheckpointError: no regular file, no complete zip archive, or one without a pickle.
    """
    require_regular(path)
    try:
        with path.open("rb") as file:
            _check_directory(path, file)
            with zipfile.ZipFile(file) as archive:
                return _document(path, archive)
    except NOT_ZIP as error:
        raise CheckpointError(f"{path}: damaged or not a PyTorch checkpoint ({first_line(error)}).") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from error


def require_regular(path: Path) -> None:
    """Raise CheckpointError unless `path` is a regular file: a device or a pipe may have no end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise CheckpointError(
            f"{path}: no such file. Expected the best.pt of a training, e.g. runs/detect/train/weights/"
        ) from None
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path}: not a regular file. Expected the best.pt of a training.")


def _check_directory(path: Path, file: BinaryIO) -> None:
    """Refuse an archive whose list of records is too long, before zipfile makes an object of each."""
    end = _END_RECORD(file)
    if end and end[_DIRECTORY_BYTES] > MAX_DIRECTORY_BYTES:
        raise _harmful(path, f"its list of records has {end[_DIRECTORY_BYTES]:,} bytes")


def _document(path: Path, archive: zipfile.ZipFile) -> Any:
    entries = archive.infolist()
    unfolded, size_bytes = sum(entry.file_size for entry in entries), path.stat().st_size
    if unfolded > _UNFOLDS * size_bytes + _SPARE_BYTES:
        raise _harmful(path, f"it unfolds from {size_bytes:,} to {unfolded:,} bytes")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path}: damaged or not a PyTorch checkpoint (it holds {len(pickles)} pickles).")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise _harmful(path, f"its pickle has {pickles[0].file_size:,} bytes beside the weights")
    folder = pickles[0].filename.removesuffix("data.pkl")
    held = {entry.filename.removeprefix(f"{folder}data/"): entry.file_size for entry in entries}
    reader = _InertUnpickler(archive.read(pickles[0]), held)
    try:
        return reader.load()
    except _Excess as excess:
        raise _harmful(path, str(excess)) from excess
    except Exception:  # a damaged pickle may fail in any way; the restricted loader says how
        return None


def _harmful(path: Path, what: str) -> HarmfulCheckpoint:
    return HarmfulCheckpoint(f"{path}: damaged, or made to harm: {what}. Copy the file again, from who made it.")


class _Excess(Exception):
    """What an honest pickle never asks for."""


class _Counted(dict[int, Callable[[Any], None]]):
    """The opcodes of a pickle, of which only so many are carried out."""

    left = MAX_STEPS

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise _Excess(f"its pickle has more than {MAX_STEPS:,} steps")
        return super().__getitem__(opcode)


_PurePython: Any = pickle._Unpickler
_END_RECORD: Any = zipfile._EndRecData  # type: ignore[attr-defined] # where ZipFile itself finds the list of records
_DIRECTORY_BYTES = 5
"""Place of its length in bytes in what _END_RECORD returns."""


class BoundedUnpickler(_PurePython):  # type: ignore[misc] # typeshed describes the C version only
    """Unpickler that allocates no more than its content has bytes for.

    Pure Python: the C version allocates as many memo slots as the pickle names, before it looks at them. A subclass
    says in `find_class` what names stand for.
    """

    dispatch: Any = dict(_PurePython.dispatch)  # noqa: RUF012 - as in the base class

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))

    def load_bytearray8(self) -> None:
        """Read what is there instead of allocating what is announced."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(min(length, MAX_PICKLE_BYTES))))

    def _key(self, key: Any) -> Any:
        """Refuse nested keys: hashing them recurses in C until the stack is full; and long ones."""
        if not isinstance(key, tuple | frozenset):
            return key
        if len(key) > MAX_KEY_ITEMS:
            raise _Excess(f"its pickle has a key of {len(key):,} items")
        if any(isinstance(item, tuple | frozenset) for item in key):
            raise _Excess("its pickle has nested tuples as keys")
        return key

    def _refuse_huge_number(self) -> None:
        """Refuse the number that was just read if reckoning with it, or hashing it, takes long."""
        if self.stack[-1].bit_length() > MAX_NUMBER_BITS:
            raise _Excess(f"its pickle has a number of {self.stack[-1].bit_length():,} bits")

    def load_int(self) -> None:
        """Read a whole number written as text; 0x... has no limit of digits in Python."""
        super().load_int()
        self._refuse_huge_number()

    def load_long(self) -> None:
        """Read a long number written as text."""
        super().load_long()
        self._refuse_huge_number()

    def load_long4(self) -> None:
        """Read a number of up to 2 GB; what is only announced is not allocated."""
        super().load_long4()
        self._refuse_huge_number()

    def load_setitem(self) -> None:
        """Set one item of a mapping."""
        self._key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set several items of a mapping."""
        for key in self.stack[::2]:
            self._key(key)
        super().load_setitems()

    def load_dict(self) -> None:
        """Make a mapping of the items since the last mark."""
        for key in self.stack[::2]:
            self._key(key)
        super().load_dict()

    def load_additems(self) -> None:
        """Add several items to a set."""
        for key in self.stack:
            self._key(key)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Make a frozen set of the items since the last mark."""
        for key in self.stack:
            self._key(key)
        super().load_frozenset()

    for _opcode, _load in (
        (pickle.INT, load_int),
        (pickle.LONG, load_long),
        (pickle.LONG4, load_long4),
        (pickle.BYTEARRAY8, load_bytearray8),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.ADDITEMS, load_additems),
        (pickle.FROZENSET, load_frozenset),
    ):
        dispatch[_opcode[0]] = _load


class _InertUnpickler(BoundedUnpickler):
    """Makes `Inert` objects of everything that is named, and checks what storages and tensors declare."""

    def __init__(self, content: bytes, held: Mapping[str, int]) -> None:
        super().__init__(content)
        self.dispatch = _Counted(type(self).dispatch)
        self._held = held
        self._classes: dict[Named, Any] = {}
        self._elements = 0
        self._claimed = 0

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that makes inert objects; an ordered mapping is what it is, and begins empty."""
        named = Named(module, name)
        if named not in self._classes:
            if len(self._classes) >= MAX_NAMES:
                raise _Excess(f"its pickle names more than {MAX_NAMES:,} classes")
            # a class of its own for each reader: a pickle may set attributes of what it names
            self._classes[named] = type("Inert", (_makes(self, named),), {"named": named})
        return self._classes[named]

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage of ("storage", class, key, location, elements), as torch.save writes it."""
        if not isinstance(pid, tuple):
            return None
        # A key that is no text is not turned into one: of tuples that share their items it would have no end.
        if len(pid) != 5 or not isinstance(pid[2], str) or not isinstance(pid[4], int):
            raise _Excess("it names a storage in another way than torch.save")
        kind = getattr(pid[1], "named", Named("", "")).name
        storage = Storage(kind, pid[2][:100], pid[4])
        claimed, found = SIZES.get(kind, 1) * storage.elements, self._held.get(storage.key, 0)
        if claimed > found or storage.elements < 0:
            raise _Excess(f"tensor {storage.key} claims {claimed:,} bytes, the file holds {found:,}")
        self._elements += storage.elements
        return storage

    def count_tensor(self, arguments: tuple[Any, ...]) -> None:
        """Refuse tensors with more elements than the storages have. Arguments: storage, offset, shape, strides, ..."""
        if len(arguments) < 3 or not isinstance(arguments[0], Storage):
            return
        shape = arguments[2]
        if not isinstance(shape, tuple) or len(shape) > 64 or not all(map(_is_size, shape)):
            raise _Excess(f"tensor {arguments[0].key} has no shape")
        elements = math.prod(shape)
        beyond = elements - arguments[0].elements
        self._claimed += max(0, beyond)
        if self._claimed > _SPARE_ELEMENTS:
            raise _Excess(
                f"tensor {arguments[0].key} declares {elements:,} elements, its storage has {arguments[0].elements:,}"
            )


def _is_size(size: object) -> bool:
    """Tell whether PyTorch could take this for one side of a tensor."""
    return isinstance(size, int) and 0 <= size < 2**63


def _makes(reader: _InertUnpickler, named: Named) -> type[Any]:
    """Return the class whose making is checked: tensors are counted, layers are never made by a call with sizes."""
    if named == Named("collections", "OrderedDict"):
        return _Ordered
    if named.name in _HASHING.get(named.module, ()):
        return _hashing_class(reader)
    if named.module == "torch._utils" and named.name.startswith("_rebuild_"):
        return _tensor_class(reader, named)
    if f"{named.module}.".startswith(("torch.nn.modules.", "ultralytics.nn.")):
        return _Layer
    if named.module.startswith(("torch.nn.", "ultralytics.")) or _allocates(named):
        return _Sized
    return Inert


def _allocates(named: Named) -> bool:
    """Tell whether PyTorch's loader would call this, and it makes as many elements as it is told to."""
    if named.module in _BUILTINS:
        return named.name == "bytearray"
    return named.module.partition(".")[0] == "torch" and named.name.endswith(("Tensor", "Storage"))


def _hashing_class(reader: _InertUnpickler) -> type[Inert]:
    class Hashing(Inert):
        def __init__(self, *arguments: Any, **_: Any) -> None:
            for argument in arguments:
                for item in argument if isinstance(argument, tuple | list) else ():
                    reader._key(item)
            super().__init__(*arguments)

    return Hashing


def _tensor_class(reader: _InertUnpickler, named: Named) -> type[Inert]:
    if named.name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"):

        class Tensor(Inert):
            def __init__(self, *arguments: Any) -> None:
                reader.count_tensor(arguments)
                super().__init__(*arguments)

        return Tensor
    return Inert if named.name.startswith("_rebuild_parameter") else _Unusual


class _Ordered(OrderedDict[Any, Any]):
    """A mapping that is made empty, as torch.save writes it; its constructor would hash keys that nobody checked."""

    def __init__(self, *arguments: Any, **_: Any) -> None:
        if arguments:
            raise _Excess("its pickle calls collections.OrderedDict with items")
        super().__init__()


class _Sized(Inert):
    """A layer, a tensor or a byte array, which are never made by a call with sizes."""

    def __new__(cls, *arguments: Any, **_: Any) -> Self:
        if any(isinstance(argument, int) and not isinstance(argument, bool) for argument in arguments):
            raise _Excess(f"its pickle calls {cls.named.module[:100]}.{cls.named.name[:100]} with sizes")
        return super().__new__(cls)


class _Layer(Inert):
    """A layer or a model, which an honest file names and never calls: a constructor may evaluate what it is given."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        if arguments or options:
            raise _Excess(f"its pickle calls {cls.named.module[:100]}.{cls.named.name[:100]}")
        return super().__new__(cls)


class _Unusual(Inert):
    """A tensor without a storage of its size: sparse, nested, of the meta device."""

    def __init__(self, *arguments: Any, **_: Any) -> None:
        raise _Excess(f"it holds a tensor of {self.named.name.removeprefix('_rebuild_')}, which no network here has")
