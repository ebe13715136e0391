"""Loading and saving of checkpoints; the only module that does either.

Checkpoints are pickles, so an untrusted one is read with Ultralytics' restricted loader, which rebuilds only known
classes. `torch.load` does not check the archive's checksums, so they are verified first. Files are written to a
temporary name, synced and renamed, so a reader sees either the old file or the new one.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics import __version__ as ultralytics_version
from ultralytics.nn.tasks import guess_model_task
from ultralytics.utils import DEFAULT_CFG_DICT

from pruning.checkpoints.inert_reader import NOT_ZIP, read_inert
from pruning.errors import CheckpointError, first_line
from ultralytics_versions.parts import Absent, E2ELoss, FeatureHook
from ultralytics_versions.restricted_loading import install, load

install()  # what Ultralytics' own trainers and exporters open is read in the same way

LEAST_TORCH = (2, 10)
PRUNED = (
    "this model is pruned, and YOLO.train would rebuild it at full size; paretoprune finetune FILE.pt data=DATA.yaml "
    "trains it as it is"
)
"""What Ultralytics says, as the name of an unknown layer, when it is to rebuild a pruned network."""
OWN = "paretoprune_"
"""How the names of our own entries of a checkpoint begin."""


def read_notes(path: str | Path) -> dict[str, Any]:
    """Return the metadata that `save_model` stored (keys paretoprune_...); {} for a checkpoint of another tool.

    Raises CheckpointError as `load_model` does.
    """
    found = _opened(Path(path))
    entries = found.items() if isinstance(found, Mapping) else ()
    return {str(key): value for key, value in entries if str(key).startswith(OWN)}


def load_model(path: str | Path) -> nn.Module:
    """Load the network of an Ultralytics checkpoint (the EMA one if present): float32, evaluation mode, on the CPU.

    Raises CheckpointError for a file that is missing, damaged, not such a checkpoint, or refused as unsafe.
    """
    path = Path(path)
    checkpoint = _opened(path)
    model: Any = network_of(path, checkpoint)
    _check_release(path, model)
    said = checkpoint.get("train_args")
    model.args = {**DEFAULT_CFG_DICT, **(said if isinstance(said, Mapping) else {})}
    model.pt_path = path.name
    model.task = getattr(model, "task", None) or guess_model_task(model)
    return model  # type: ignore[no-any-return]


def _check_release(path: Path, model: Any) -> None:
    """Refuse a YOLO26 in a release before it, which would run its other head, and train that by another loss."""
    head = model.model[-1] if isinstance(getattr(model, "model", None), nn.Sequential) else None
    is_later = "one2one_cv2" in getattr(head, "_modules", {}) and type(head).__name__ != "v10Detect"
    if is_later and E2ELoss is Absent:
        raise CheckpointError(
            f"{path}: a YOLO26, which Ultralytics {ultralytics_version} cannot run. Expected 8.4.0 or later: "
            f"pip install 'ultralytics>=8.4,<8.5'."
        )


def _opened(path: Path) -> Any:
    _check_loader()
    check_restricted(path)
    try:
        checkpoint = load(path)
    except Exception as error:  # a malicious file may raise anything
        if _of_yolov5(path):
            raise CheckpointError(
                f"{path}: was trained by the YOLOv5 repository, whose networks the ultralytics package cannot run. "
                f"Train a yolov5nu.pt, or a later model, with ultralytics on the same data."
            ) from error
        raise _unsafe(path, first_line(error)) from error
    return checkpoint


def _unsafe(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not an Ultralytics checkpoint that can be loaded safely: {why}. "
        f"Expected a .pt file written by `yolo train`. If the network has modules of your own, name their file "
        f"(modules: FILE.py in study.yaml, modules=FILE.py of a command). Its sha256 is {file_digest(path)}: if "
        f"you trust its source, give that to --trust of paretoprune check or search."
    )


def _of_yolov5(path: Path) -> bool:
    """Return whether the pickle of a checkpoint names the modules of the YOLOv5 repository."""
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return any(b"models.yolo" in archive.read(name) for name in pickles)


def _check_loader() -> None:
    """Require safe loading: below torch 2.6 Ultralytics loads without restriction; up to 2.9 it could be bypassed."""
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        raise CheckpointError(
            f"torch {torch.__version__} cannot load a checkpoint safely. Expected {least} or later: "
            f"pip install 'torch>={least}'."
        )


def network_of(path: Path, checkpoint: Any) -> Any:
    """Return the network in a loaded checkpoint (the EMA one if present): float32, evaluation mode.

    Raises CheckpointError if there is none or it holds NaN; `path` is for the message.
    """
    found = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, Mapping) else None
    student = getattr(found, "student_model", found)  # a checkpoint of distillation wraps the network
    if not isinstance(student, nn.Module) or not hasattr(student, "yaml"):
        raise CheckpointError(f"{path}: holds no Ultralytics model. Expected a .pt file written by `yolo train`.")
    kinds = {str(p.dtype) for p in student.parameters() if not p.is_floating_point()}
    if kinds:
        raise CheckpointError(
            f"{path}: its weights are {', '.join(sorted(kinds))}, so it was quantised. Give the float checkpoint that "
            f"it was made from."
        )
    for what, tensors in (("weights", student.parameters()), ("batch-norm statistics", student.buffers())):
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise CheckpointError(f"{path}: holds NaN or infinite {what}. Train the model again, or give another file.")
    return without_feature_hooks(student).float().eval()


def without_feature_hooks(model: nn.Module) -> nn.Module:
    """Remove the hooks of distillation from `model`, in place: a checkpoint would store the features they hold."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, FeatureHook):
                del module._forward_hooks[key]
    return model


def check_archive(path: Path) -> Any:
    """Return what `read_inert` finds in a complete zip archive, as torch.save writes it.

    Raises CheckpointError for anything else.
    """
    document = read_inert(path)
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (*NOT_ZIP, OSError) as error:
        raise CheckpointError(f"{path}: damaged or not a PyTorch checkpoint ({first_line(error)}).") from error
    if broken is not None:
        raise CheckpointError(f"{path}: damaged: the checksum of {broken} is wrong. Copy the file again.")
    return document


def check_restricted(path: Path) -> None:
    """Raise CheckpointError unless PyTorch's restricted loader may have this file.

    Beyond `check_archive`, its pickle must have been read to the end: what comes after a fault was not checked, and the
    loader may find no fault there.
    """
    if check_archive(path) is None:
        raise _unsafe(path, "its pickle is damaged")


def save_model(
    model: nn.Module, path: str | Path, *, dtype: torch.dtype = torch.float16, **metadata: str | int | float | None
) -> None:
    """Write `model` in half precision so that plain `YOLO(path)` opens it; `metadata` is stored beside the model.

    With a plan (`paretoprune_plan`), or as one of several steps, the file refuses to be rebuilt: `YOLO(path).train()`
    would build the network of its YAML at full size, without a word. Prediction, validation, export and our trainers do
    not read the YAML's layers.
    """
    stored: Any = _converted(copy.deepcopy(model), dtype).eval()
    if {f"{OWN}plan", f"{OWN}step"} & metadata.keys() and hasattr(stored, "yaml"):
        stored.yaml = not_to_be_rebuilt(stored.yaml)
    for parameter in stored.parameters():
        parameter.requires_grad_(False)
    arguments = _plain(getattr(model, "args", None))
    stored.args = arguments
    stored.criterion = None
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": ultralytics_version,
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "epoch": -1,
        "best_fitness": None,
        "model": stored,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": arguments,
        **metadata,
    }
    write_atomically(Path(path), document)


@torch.no_grad()
def _converted(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert in place; a number beyond the range of `dtype`, such as a large variance, becomes its largest.

    What is no number stays so, and `load_model` refuses it.
    """
    largest = torch.finfo(dtype).max
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(torch.where(tensor.isfinite(), tensor.clamp(-largest, largest), tensor))
    return model.to(dtype)


def not_to_be_rebuilt(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the YAML of a network with a last layer of no known class, whose name is the message of the error."""
    head = [layer for layer in description.get("head", ()) if layer[2] != PRUNED]
    return {**description, "head": [*head, [-1, 1, PRUNED, []]]}


def _plain(arguments: Any) -> dict[str, Any]:
    """Return training arguments as plain values, without paths of the training machine."""
    values = dict(arguments) if isinstance(arguments, Mapping) else dict(vars(arguments)) if arguments else {}
    here = ("model", "data", "project", "name", "save_dir", "distill_model", "resume")
    return {
        k: v for k, v in values.items() if k not in here and isinstance(v, (str, int, float, bool, list, type(None)))
    }


def write_atomically(path: Path, document: Any) -> None:
    """Write by torch.save to a temporary file in the same folder, sync it and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(document, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal. Raises CheckpointError if the file is missing."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of `model`, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
