"""Cache of a run's latency measurements: equal widths are timed only once.

    latency/<key>.json    {"format", "key": what was timed and on what, "latency": figures and flags,
                           "further": other costs, if the study names any}

Figures flagged as disturbed are stored, but measured again at the next request. Unreadable files count as absent, since
everything here can be measured again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from objectives.image_size import Size, written
from objectives.latency.protocol import Latency
from objectives.latency.quality_flags import DISTURBED
from objectives.objective import Estimate
from objectives.runtimes.names import command_words, distribution_of, is_command
from objectives.runtimes.runner import processor
from search.config.sections import LatencySpec
from search.evaluate.timing.network_costs import Costs, Further
from search.run_folder.artefact_files import digest
from search.run_folder.atomic import write_json

FORMAT = 1
Key = Mapping[str, Any]


def widths_digest(widths: Mapping[str, int], removed: Iterable[str] = ()) -> str:
    """Return the sha256 of the channels kept per group and the blocks removed, which determine the latency."""
    content = [sorted(widths.items()), sorted(removed)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def timing_key(
    spec: LatencySpec,
    widths: str,
    imgsz: Size,
    base_imgsz: Size,
    precision: str = "fp32",
    base: int = 0,
    base_precision: str = "fp32",
) -> dict[str, Any]:
    """Return everything that a ratio to the base depends on.

    Args:
        widths: `widths_digest`.
        imgsz, base_imgsz: input sizes of the candidate and of the base, in pixels.
        base: place of the candidate's base in the study: two bases may call their groups alike.
        base_precision: in which the base is timed, the study's own; float32 goes without saying, as in older keys.
    """
    return {
        **({"base": base} if base else {}),
        **({} if base_precision == "fp32" else {"base_precision": base_precision}),
        "widths": widths,
        "imgsz": written(imgsz),
        "base_imgsz": written(base_imgsz),
        "batch": spec.batch,
        "precision": precision,
        **conditions(spec),
    }


def conditions(spec: LatencySpec) -> dict[str, Any]:
    """Return the conditions to report with a latency: runtime, its version, device, threads and processor."""
    return {
        "runtime": spec.runtime,
        "version": _version(spec.runtime),
        "device": "its own" if is_command(spec.runtime) else spec.device,
        "threads": spec.threads,
        "processor": processor(),
    }


def _version(runtime: str) -> str:
    """Return a package's version; for a user's program its sha256, since another script measures differently."""
    if is_command(runtime):
        program = shutil.which(command_words(runtime)[0])
        return digest(Path(program)) if program else ""
    try:
        return metadata.version(distribution_of(runtime))
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class LatencyCache:
    """The folder of cached latencies."""

    folder: Path

    def find(self, key: Key) -> Latency | None:
        """Return the undisturbed measurement with this key, or None."""
        found = self.costs(key)
        return None if found is None else found.latency

    def costs(self, key: Key, names: Iterable[str] = ()) -> Costs | None:
        """Return the undisturbed latency with this key and the further costs `names`; None if one is not known."""
        try:
            content = self._content(key)
            latency = latency_from_json(content["latency"])
            further = {name: Further.from_json(row) for name, row in content.get("further", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        found = Costs(latency, further)
        known = content.get("key") == dict(key) and set(names) <= further.keys()
        disturbed = DISTURBED & {*latency.flags, *(flag for _, flag in found.flags)}
        return found if known and not disturbed else None

    def add(self, key: Key, latency: Latency, further: Mapping[str, Further] | None = None) -> None:
        """Store a measurement, replacing an earlier one; further costs of that one stay unless others are given."""
        content = {"format": FORMAT, "key": dict(key), "latency": latency_to_json(latency)}
        if further is not None:
            content["further"] = {name: one.to_json() for name, one in further.items()}
        else:
            content |= self._known_further(key)
        write_json(self._path(key), content)

    def _known_further(self, key: Key) -> dict[str, Any]:
        try:
            content = self._content(key)
        except (OSError, ValueError):
            return {}
        return {"further": content["further"]} if isinstance(content, dict) and content.get("further") else {}

    def _content(self, key: Key) -> Any:
        return json.loads(self._path(key).read_text(encoding="utf-8"))

    def _path(self, key: Key) -> Path:
        name = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name[:16]}.json"


def latency_to_json(latency: Latency) -> dict[str, Any]:
    """Return plain data; times in milliseconds."""
    return {
        "ratio": latency.ratio.to_dict(),
        "p50_ms": latency.p50_ms,
        "p90_ms": latency.p90_ms,
        "reference_ms": latency.reference_ms,
        "reference_p90_ms": latency.reference_p90_ms,
        "rounds": latency.rounds,
        "seconds": round(latency.seconds, 3),
        "flags": list(latency.flags),
        "ratios": list(latency.ratios),
    }


def latency_from_json(data: Mapping[str, Any]) -> Latency:
    """Parse the output of `latency_to_json`. Raises ValueError, KeyError or TypeError on anything else."""
    ratio = data["ratio"]
    return Latency(
        ratio=Estimate(ratio["value"], ratio["low"], ratio["high"]),
        **{name: float(data[name]) for name in ("p50_ms", "p90_ms", "reference_ms", "reference_p90_ms", "seconds")},
        rounds=int(data["rounds"]),
        flags=tuple(map(str, data["flags"])),
        ratios=tuple(map(float, data.get("ratios", ()))),  # absent in files from before it was kept
    )
