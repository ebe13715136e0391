"""Convert a trusted checkpoint to plain data and stock classes by unpickling it once."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from pruning.checkpoints.checkpoint import check_archive, load_model, network_of, save_model
from pruning.errors import CheckpointError


def write_clean_copy(path: Path, digest: str, copy: Path) -> None:
    """Unpickle `path`, whose sha256 must be `digest`, and save its network as `copy` in its own precision.

    This executes arbitrary code of the file. Equal files give byte-identical copies, whenever they are made.

    Raises CheckpointError: another hash, a damaged file, no Ultralytics model, or one with custom classes.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CheckpointError(f"{path}: its sha256 is {found}, trusted is {digest}.")
    check_archive(path)
    try:
        checkpoint: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as error:  # it is foreign code that runs here
        raise CheckpointError(f"{path}: trusted, but cannot be unpickled: {type(error).__name__}: {error}") from error
    network: Any = network_of(path, checkpoint)
    network.args = {**DEFAULT_CFG_DICT, **_mapping(checkpoint.get("train_args"))}
    save_model(network, copy, dtype=torch.float32, paretoprune_trusted=digest, date="")
    try:
        load_model(copy)
    except CheckpointError as error:
        copy.unlink()
        raise CheckpointError(
            f"{path}: trusted, but its network has classes that are not Ultralytics' own. "
            "Give it as a function that builds it: model: module.py:function."
        ) from error


def _mapping(said: Any) -> dict[str, Any]:
    return dict(said) if isinstance(said, dict) else {}
