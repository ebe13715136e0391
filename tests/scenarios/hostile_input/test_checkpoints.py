"""A zoo of files that were made to harm: each ends in the documented error, and nothing of it runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pruning import CheckpointError
from pruning.checkpoints.checkpoint import check_archive, file_digest, load_model, save_model
from pruning.checkpoints.trusted import write_clean_copy
from tests.pruning import zoo


class Reduces:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Storage:
    """A storage that claims to be as large as it likes."""

    def __init__(self, count: int) -> None:
        self.count = count


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", thing.count) if isinstance(thing, Storage) else None


def written(path: Path, content: bytes, kind: int = zipfile.ZIP_STORED) -> Path:
    """An archive as torch.save lays it out, around a pickle of one's own."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", b"\0" * 16)
        archive.writestr("archive/version", "3\n")
    return path


def pickled(document: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(document)
    return file.getvalue()


def calls(path: Path, function: Any, *arguments: Any) -> Path:
    return written(path, pickled({"model": Reduces(function, *arguments)}))


def by_name(path: Path, module: str, name: str, argument: str) -> Path:
    """A pickle that calls module.name(argument), whether or not there is such a thing here."""
    return written(path, f"c{module}\n{name}\n(S'{argument}'\ntR.".encode())


def tensor(count: int, shape: int) -> bytes:
    arguments = (Storage(count), 0, (shape,), (1,), False, OrderedDict())
    return pickled({"model": Reduces(torch._utils._rebuild_tensor_v2, *arguments)})


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled({}))
        archive.writestr("archive/data/0", b"\0" * 50_000_000)
    return path


def truncated(path: Path) -> Path:
    whole = written(path, tensor(4, 4)).read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    return path


NESTED = b"]" + b")" + b"\x85" * 200_000 + b"N\x86a\x85R."
"""A list with an item whose hash ends the process, as the argument of what is on the stack, which is called."""
FAULT = b"\x80\x02ccollections\nOrderedDict\n)R]X\1\0\0\0aK\1\x86ab"
"""What PyTorch's loader takes and Python's own does not."""


ZOO: dict[str, tuple[Callable[[Path, str], Path], str]] = {
    "os.system": (lambda p, m: calls(p, os.system, f"touch {m}"), "loaded safely"),
    "eval": (lambda p, m: calls(p, eval, f"__import__('pathlib').Path({m!r}).touch()"), "loaded safely"),
    "exec": (lambda p, m: calls(p, exec, f"import pathlib; pathlib.Path({m!r}).touch()"), "loaded safely"),
    "getattr": (lambda p, m: calls(p, getattr, m, "upper"), "loaded safely"),
    "torch.load again": (lambda p, m: calls(p, torch.load, m), "loaded safely"),
    "torch.hub": (lambda p, m: by_name(p, "torch.hub", "load", m), "loaded safely"),
    "missing module": (lambda p, m: by_name(p, "no_such_module", "Thing", m), "loaded safely"),
    "unknown global": (lambda p, m: by_name(p, "ultralytics.nn.tasks", "NoSuchModel", m), r"calls .*NoSuchModel"),
    "module with side effects": (lambda p, m: by_name(p, "antigravity", "fly", m), "loaded safely"),
    "huge storage": (lambda p, m: written(p, tensor(10**13, 4)), r"claims 40,000,000,000,000 bytes, the file holds 16"),
    "tensor beyond its storage": (lambda p, m: written(p, tensor(4, 10**12)), "its storage has 4"),
    "zip bomb": (lambda p, m: bomb(p), "unfolds from"),
    "truncated zip": (lambda p, m: truncated(p), "damaged"),
    "no pickle": (lambda p, m: written(p, b"\x80\x05 garbage"), "loaded safely"),
    "no end": (lambda p, m: written(p, pickle.dumps({})[:-1]), "loaded safely"),
    "memo without end": (lambda p, m: written(p, b"\x80\x02Nr\xff\xff\xff\x7f."), "loaded safely"),
    "a mapping of nested tuples": (lambda p, m: written(p, b"ccollections\nOrderedDict\n" + NESTED), "with items"),
    "a counter of nested tuples": (lambda p, m: written(p, b"ccollections\nCounter\n" + NESTED), "nested tuples"),
    "harm behind a fault": (lambda p, m: written(p, FAULT + b"ccollections\nCounter\n" + NESTED), "pickle is damaged"),
    "a list": (lambda p, m: written(p, pickled([1])), "Expected a .pt file"),
}


@pytest.mark.parametrize("name", ZOO)
def test_a_hostile_file_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    make, said = ZOO[name]
    marker = tmp_path / "ran"
    path = make(tmp_path / "hostile.pt", str(marker))
    with pytest.raises(CheckpointError, match=said):
        load_model(path)
    assert not marker.exists()


def test_the_zoo_is_hostile(tmp_path: Path) -> None:
    """Unrestricted, these files do run: otherwise the test above proves nothing."""
    for name in ("os.system", "eval", "exec"):
        marker = tmp_path / name
        path = ZOO[name][0](tmp_path / "hostile.pt", str(marker))
        torch.load(path, weights_only=False)
        assert marker.exists(), name


def test_an_honest_archive_of_that_layout_passes(tmp_path: Path) -> None:
    check_archive(written(tmp_path / "honest.pt", tensor(4, 4)))


def test_without_a_loader_that_restricts_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(CheckpointError, match=r"torch 2\.9\.1\+cpu cannot load a checkpoint safely"):
        load_model(tmp_path / "any.pt")


class Own:
    """What a fork of Ultralytics leaves in its checkpoints."""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A stock network beside an object that the restricted loader does not know."""
    save_model(zoo.build("yolov8n.yaml"), tmp_path / "stock.pt")
    document = torch.load(tmp_path / "stock.pt", weights_only=False)
    torch.save({**document, "callbacks": Own()}, tmp_path / "foreign.pt")
    return tmp_path / "foreign.pt"


def test_what_is_trusted_by_its_hash_becomes_a_clean_copy(foreign: Path, tmp_path: Path) -> None:
    digest = file_digest(foreign)
    with pytest.raises(CheckpointError, match=f"Its sha256 is {digest}: .* --trust"):
        load_model(foreign)
    copies = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for copy in copies:
        write_clean_copy(foreign, digest, copy)
    clean, stock = load_model(copies[0]), load_model(tmp_path / "stock.pt")
    for (name, a), (other, b) in zip(clean.state_dict().items(), stock.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)
    assert load_model(copies[1]).state_dict().keys() == clean.state_dict().keys()
    with pytest.raises(CheckpointError, match="trusted is 000"):
        write_clean_copy(foreign, "0" * 64, tmp_path / "c.pt")


def test_a_network_of_somebodys_own_classes_is_not_copied(tmp_path: Path) -> None:
    class Local(torch.nn.Module):
        pass

    Local.__qualname__ = "Block"
    globals()["Block"] = Local
    model = zoo.build("yolov8n.yaml")
    model.extra = Local()
    try:
        torch.save({"model": model}, tmp_path / "own.pt")
        with pytest.raises(CheckpointError, match=r"classes that are not Ultralytics' own.*module\.py:function"):
            write_clean_copy(tmp_path / "own.pt", file_digest(tmp_path / "own.pt"), tmp_path / "copy.pt")
    finally:
        del model.extra, globals()["Block"]
    assert not (tmp_path / "copy.pt").exists()
