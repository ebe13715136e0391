"""What a pickle claims is never allocated, and what an honest one says is read."""

from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pruning.checkpoints import inert_reader
from pruning.checkpoints.inert_reader import HarmfulCheckpoint, Inert, Storage, read_inert
from pruning.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[3]
NETWORK = ROOT / "studies" / "digits" / "yolov8n-digits.pt"
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ"
"""A storage of one element in a pickle."""


def archive(path: Path, content: bytes, kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/data/0", b"\0" * 4)
    return path


def tensor(shape: bytes, function: bytes = b"ctorch._utils\n_rebuild_tensor_v2\n") -> bytes:
    return function + b"(" + STORAGE + b"K\0" + shape + b"tR."


NESTED = b")" + b"\x85" * 200_000
"""A tuple in a tuple, 200,000 deep: hashing it ends the process."""
SHARED = b")" + b"2\x86" * 60
"""A tuple of two, each a tuple of two, ...: as text it would have 2**60 parts."""
HUGE = b"\x8b" + struct.pack("<i", 10_000_000) + b"\x7f" * 10_000_000
"""A number of ten million bytes."""


HARMFUL: dict[str, tuple[bytes, str]] = {
    "a tensor with a stride of 0": (tensor(b"J\xff\xff\xff\x77K\x04\x86K\0K\0\x86"), "declares 8,053,063,676 elements"),
    "a tensor of negative size": (tensor(b"X\x01\0\0\0a\x85K\x01\x85"), "has no shape"),
    "a sparse tensor": (tensor(b"K\x01\x85", b"ctorch._utils\n_rebuild_sparse_tensor\n"), "sparse_tensor"),
    "a meta tensor": (tensor(b"K\x01\x85", b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n"), "meta_tensor"),
    "a layer made by a call": (
        b"ctorch.nn.modules.linear\nLinear\n(J\xff\xff\xff\x0fJ\xff\xff\xff\x0ftR.",
        "calls torch",
    ),
    "a model made by a call": (
        b"cultralytics.nn.tasks\nDetectionModel\n(}X\x0a\0\0\0activationX\x01\0\0\0xstR.",
        "calls ultralytics.nn.tasks.DetectionModel",
    ),
    "a layer made with arguments, without a call": (
        b"ctorch.nn.modules.activation\nReLU\n\x88\x85\x81.",
        "calls torch.nn.modules.activation.ReLU",
    ),
    "steps without end": (b"]" * 3_000_000 + b".", "more than 500,000 steps"),
    "sets without end": (b"\x8f" * 3_000_000 + b".", "more than 500,000 steps"),
    "classes without end": (b"".join(b"ca\n%d\n" % n for n in range(20_000)) + b".", "more than 5,000 classes"),
    "a key of nested tuples": (b"}" + b")" + b"\x85" * 300_000 + b"Ns.", "nested tuples"),
    "a set of nested tuples": (b"\x8f(" + b")" + b"\x85" * 300_000 + b"\x90.", "nested tuples"),
    "an ordered mapping made of nested tuples": (
        b"ccollections\nOrderedDict\n]" + NESTED + b"N\x86a\x85R.",
        "calls collections.OrderedDict with items",
    ),
    "an ordered mapping made of nested tuples by another opcode": (
        b"(ccollections\nOrderedDict\n]" + NESTED + b"N\x86ao.",
        "calls collections.OrderedDict with items",
    ),
    "a set made of nested tuples": (b"c__builtin__\nset\n]" + NESTED + b"a\x85R.", "nested tuples"),
    "a counter made of nested tuples": (b"ccollections\nCounter\n]" + NESTED + b"a\x85R.", "nested tuples"),
    "a key that takes long to hash": (b"}(" + b"N" * 200_000 + b"tNs.", "a key of 200,000 items"),
    "a tensor whose sizes are huge numbers": (
        tensor(HUGE + b"q\0000(" + b"h\0" * 64 + b"t"),
        "a number of 79,999,999 bits",
    ),
    "a huge number in hexadecimal": (b"I0x" + b"7f" * 1_000_000 + b"\n.", "a number of 7,999,999 bits"),
    "a long number in hexadecimal": (b"L0x" + b"7f" * 1_000_000 + b"L\n.", "a number of 7,999,999 bits"),
    "a tensor whose size no machine can hold": (tensor(b"\x8a\x09" + b"\0" * 8 + b"\1\x85"), "has no shape"),
    "a storage whose key has no end as text": (
        STORAGE.replace(b"X\x01\0\0\x000", SHARED) + b".",
        "another way than torch.save",
    ),
    "a byte array by its size": (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "bytearray with sizes"),
    "a tensor class by its size": (b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.", "FloatTensor with sizes"),
    "a tensor class by its size, without a call": (
        b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85\x81.",
        "FloatTensor with sizes",
    ),
    "a storage class by its size": (
        b"ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R.",
        "UntypedStorage with sizes",
    ),
    "a pickle that is too large": (
        b"\x80\x02X" + struct.pack("<I", 40_000_000) + b"a" * 40_000_000 + b".",
        "beside the",
    ),
    "a storage of more than is there": (
        STORAGE.replace(b"K\x01tQ", b"J\xff\xff\xff\x7ftQ") + b".",
        "claims 8,589,934,588",
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_what_would_exhaust_memory_or_time_is_refused(name: str, tmp_path: Path) -> None:
    content, said = HARMFUL[name]
    path = archive(tmp_path / "hostile.pt", content)
    with limited(), pytest.raises(HarmfulCheckpoint, match=said):
        read_inert(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x96" + struct.pack("<Q", 2**33) + b"abc.",
        b"\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"\x95" + struct.pack("<Q", 2**60) + b"N.",
    ],
    ids=["memo index", "bytearray", "bytes", "long number", "frame"],
)
def test_a_length_that_is_only_announced_allocates_nothing(content: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "hostile.pt", content)
    with limited(20_000_000):
        assert read_inert(path) in (None, bytearray(b"abc."))


def test_an_archive_that_unfolds_is_not_unfolded(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.pt", b"]" * 30_000_000, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with limited(20_000_000), pytest.raises(HarmfulCheckpoint, match="unfolds from"):
        read_inert(path)


def test_an_archive_of_countless_records_is_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "many.pt"
    with zipfile.ZipFile(path, "w") as file:
        for number in range(50_000):
            file.writestr(str(number), b"")
    with limited(20_000_000), pytest.raises(HarmfulCheckpoint, match="its list of records has 2,"):
        read_inert(path)


def test_a_large_network_is_no_countless_archive() -> None:
    with NETWORK.open("rb") as file:
        end = inert_reader._END_RECORD(file)
    assert 0 < 20 * end[inert_reader._DIRECTORY_BYTES] < inert_reader.MAX_DIRECTORY_BYTES


class limited:
    """A block that allocates at most so many bytes."""

    def __init__(self, most: int = 200_000_000) -> None:
        self.most = most

    def __enter__(self) -> None:
        tracemalloc.start()
        self.begin = time.process_time()

    def __exit__(self, *raised: object) -> None:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < self.most, f"{peak:,} bytes"
        assert time.process_time() - self.begin < 60  # a second, without tracemalloc; what it is for would take hours


def _device(folder: Path) -> Path:
    return Path("/dev/zero")


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.pt")
    return folder / "pipe.pt"


def _folder(folder: Path) -> Path:
    return folder


@pytest.mark.parametrize("make", [_device, _pipe, _folder])
def test_only_a_regular_file_is_opened(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_inert(make(tmp_path))


def test_an_honest_network_is_read() -> None:
    document = read_inert(NETWORK)
    assert isinstance(document["model"], Inert) and document["model"].named.name == "DetectionModel"
    assert document["train_args"]["imgsz"] == 128


def test_storages_have_a_kind_and_a_size(tmp_path: Path) -> None:
    assert read_inert(archive(tmp_path / "a.pt", STORAGE + b".")) == Storage("FloatStorage", "0", 1)


def test_an_ordered_mapping_is_a_mapping(tmp_path: Path) -> None:
    made = archive(tmp_path / "a.pt", b"ccollections\nOrderedDict\n)R(X\1\0\0\0aK\1u.")
    assert read_inert(made) == {"a": 1}


def test_what_a_pickle_does_to_a_class_ends_with_it(tmp_path: Path) -> None:
    """It sets the constructor of the ordered mapping; the next pickle finds the checked one."""
    change = b"ccollections\nOrderedDict\nN}X\x08\0\0\0__init__cbuiltins\nlist\ns\x86b."
    read_inert(archive(tmp_path / "a.pt", change))
    with pytest.raises(HarmfulCheckpoint, match="OrderedDict with items"):
        read_inert(archive(tmp_path / "b.pt", b"ccollections\nOrderedDict\n]\x85R."))


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({})[:-1], b"cos\nsystem\n(S'true'\ntR"])
def test_a_damaged_pickle_is_nothing(content: bytes, tmp_path: Path) -> None:
    assert read_inert(archive(tmp_path / "a.pt", content)) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 2**20), st.binary(max_size=6)), min_size=1, max_size=6))
def test_a_network_with_changed_bytes_is_read_or_refused(tmp_path: Path, cuts: list[tuple[int, bytes]]) -> None:
    with zipfile.ZipFile(NETWORK) as file:
        name = next(name for name in file.namelist() if name.endswith("/data.pkl"))
        content = bytearray(file.read(name)[:6000])
    for place, change in cuts:
        start = place % len(content)
        content[start : start + len(change)] = change
    try:
        read_inert(archive(tmp_path / "changed.pt", bytes(content)))
    except HarmfulCheckpoint as error:
        assert "made to harm" in str(error)


def test_the_limits_leave_room_for_the_largest_networks() -> None:
    """yolo11x has about three times the steps of yolov8n; a checkpoint of a training holds it twice."""
    counted = inert_reader._Counted(inert_reader.BoundedUnpickler.dispatch)
    assert counted.left > 10 * 40_000
