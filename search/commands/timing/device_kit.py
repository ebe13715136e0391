"""The device kit: exported models and a script that times them where ParetoPrune cannot be installed.

    kit.zip
      manifest.json     content with sha256 sums, and timing settings
      run.py            the runner: Python 3.8, the standard library and one runtime
      README.md
      models/*          the base and the front, as the runtime reads them; equal networks once

The manifest stays in the run too (`latency/kits/<id>.json`): figures that come back are held against it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from objectives.held_folder import held_folder
from objectives.image_size import Size
from objectives.runtimes.names import SUFFIXES
from objectives.runtimes.torch_runner import input_channels
from search.commands.timing.models import Model, front_of, model_of
from search.config.sections import LatencySpec
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError
from search.evaluate.timing.latency import export_timed
from search.evaluate.timing.latency_cache import widths_digest
from search.prepare.preflight import check_runtime
from search.results.target_device import FORMAT, kit_path
from search.run_folder.artefact_files import digest, files_of
from search.run_folder.atomic import write_json
from search.study import Study
from search.trial import Trial

HALF_WIDTH = 0.01
_RUNTIMES = ("onnxruntime", "openvino", *SUFFIXES)
_EPOCH = (2020, 1, 1, 0, 0, 0)
"""Times in the archive: equal models make equal archives."""


def build_kit(
    study: Study, out: Path, spec: LatencySpec, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Export the base and the front to a kit, and write it to `out` atomically.

    Returns the manifest. Raises ConfigError: no front, a runtime that the runner does not know; LatencyError: a model
    that cannot be exported.
    """
    if spec.runtime not in _RUNTIMES:
        raise ConfigError(
            f"the kit's runner does not know {spec.runtime}", where="runtime=", expected=" or ".join(_RUNTIMES)
        )
    if spec.runtime in SUFFIXES:
        check_runtime(spec.runtime)  # what reads ONNX is needed on the device only
    results = study.results()
    front = front_of(results)
    if not front:
        raise ConfigError(
            f"{study.record.path} has no front yet", next_command=f"paretoprune resume {study.record.path}"
        )
    _check_float32(front)
    wanted = [PickedTrial(results, trial, "") for trial in (None, *front)]
    with held_folder("kit") as name:
        rows = _export(wanted, spec, name, say)
        manifest = _manifest(study, spec, rows)
        write_json(kit_path(study.record, manifest["kit"]), manifest)
        _write_zip(out, manifest, name)
    return manifest


def _check_float32(front: Sequence[Trial]) -> None:
    others = [
        f"trial {trial.id} in {trial.candidate.precision}" for trial in front if trial.candidate.precision != "fp32"
    ]
    if others:
        raise ConfigError(
            f"the kit times float32, and the front has {', '.join(others)}", expected="a run whose front is in float32"
        )


def _export(
    wanted: Sequence[PickedTrial], spec: LatencySpec, folder: Path, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return one row per distinct network: file, sha256, input size, and the trials that it represents."""
    rows: dict[tuple[str, Size], dict[str, Any]] = {}
    for number, picked in enumerate(wanted, 1):
        model = model_of(picked)
        key = (_widths(picked), model.imgsz)
        if key not in rows:
            say(f"exporting {picked.name} ({number}/{len(wanted)})")
            rows[key] = _exported(model, picked, spec, folder)
        if picked.trial is not None:
            rows[key]["trials"].append(picked.trial.number)
    return list(rows.values())


def _exported(model: Model, picked: PickedTrial, spec: LatencySpec, folder: Path) -> dict[str, Any]:
    name = "base" if picked.trial is None else f"{picked.trial.number:04d}"
    module = model.module()
    path = export_timed(module, spec, folder / name, model.imgsz)
    return {
        "file": f"models/{path.name}",
        "channels": input_channels(module),
        "sha256": digest(path),
        "imgsz": model.imgsz,  # [height, width] of a rectangle
        "base": model.is_base,
        "trials": [],
    }


def _widths(picked: PickedTrial) -> str:
    """Return what tells networks apart: the widths, and of which base."""
    trial, measured = picked.trial, picked.measurement
    found = "" if measured is None else widths_digest(measured.widths, () if trial is None else trial.candidate.removed)
    return f"{picked.place}:{found}"


def _manifest(study: Study, spec: LatencySpec, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    settings = {
        "runtime": spec.runtime,
        "threads": spec.threads,
        "batch": spec.batch,
        "seconds": spec.seconds,
        "half_width": HALF_WIDTH,
    }
    content = {
        "format": FORMAT,
        "run": study.spec.run_name,
        "settings": settings,
        "models": [dict(row) for row in rows],
    }
    return {**content, "kit": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def _write_zip(out: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            source = files("search.commands.timing").joinpath("kit")
            for name in ("run.py", "README.md"):
                _add(archive, name, source.joinpath(name).read_bytes())
            _add(archive, "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
            for row in manifest["models"]:
                made = folder / Path(row["file"]).name
                for file in files_of(made):
                    inside = "" if file == made else f"/{file.relative_to(made).as_posix()}"
                    _add(archive, row["file"] + inside, file.read_bytes())
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file; weights are stored uncompressed, since they do not compress."""
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
