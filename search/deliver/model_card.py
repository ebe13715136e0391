"""The model card: a delivered model's identity, origin and measured figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from objectives.image_size import Size, written
from search.config.inputs.user_code import UserReference
from search.export.report import ArtefactCheck, ExportReport
from search.results import snapshot_reader as reading
from search.results.schema import Snapshot, TrialRow
from search.run_folder.atomic import write_atomic

_LICENCE = (
    "The model's code and weights derive from Ultralytics YOLO, which is licensed under AGPL-3.0 "
    "(or an Ultralytics Enterprise licence). Whoever passes this model on, or offers it over a network, is bound by "
    "that licence; the data set may bring terms of its own."
)

_OWN_LICENCE = "The model's code and weights are its author's; the data set may bring terms of its own."


def _is_own(snapshot: Snapshot) -> bool:
    """Return whether the study is of a user's own task (docs/own_task.md)."""
    return UserReference.parse((snapshot.get("study") or {}).get("data")) is not None


def write_model_card(
    path: Path,
    snapshot: Snapshot,
    point: str,
    *,
    lineage: Mapping[str, str],
    commands: Sequence[str],
    export: ExportReport | None = None,
) -> Path:
    """Write the card of a trial or an export to `path` and return it.

    Args:
        snapshot: the run's record.
        point: its id, `17` or `17-int8`.
        lineage: digests by what they are of ("base model", "data", "plan", ...).
        commands: the command lines that made it, in order.
        export: the verified artefacts, if any.

    Raises:
        UnknownTrial: no row has this id.
    """
    write_atomic(path, render_card(snapshot, point, lineage=lineage, commands=commands, export=export))
    return path


def render_card(
    snapshot: Snapshot,
    point: str,
    *,
    lineage: Mapping[str, str],
    commands: Sequence[str],
    export: ExportReport | None = None,
) -> str:
    """The card as Markdown; every name in it is escaped."""
    row = reading.trial(snapshot, point)
    parts = [
        f"# {_plain(snapshot['name'])}, trial {row['id']}",
        _summary(snapshot, row),
        "## Figures\n\n" + _figures(snapshot, row, export),
        *(["## Exported artefacts\n\n" + _artefacts(export)] if export else []),
        "## Lineage\n\n" + _table(("what", "sha256"), lineage.items()),
        "## Made by\n\n" + _code(commands),
        "## Versions\n\n" + _table(("what", "version"), _versions(snapshot, export)),
        "## Licence\n\n" + (_OWN_LICENCE if _is_own(snapshot) else _LICENCE),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(snapshot: Snapshot, row: TrialRow) -> str:
    free = [group for group in reading.groups_of(snapshot, row) if not group.get("frozen")]
    before = sum(group["size"] for group in free)
    after = sum((row.get("widths") or {}).get(group["name"], group["size"]) for group in free)
    kept = f" {after} of {before} channels in {len(free)} groups were kept." if before else ""
    origin = reading.base_name(snapshot, row)
    kept += f" It was pruned from {_plain(origin)}." if origin else ""
    names = reading.picked_for(snapshot, row["id"])
    reasons = [str(snapshot["picks"][name].get("sentence") or "") for name in names]
    chosen = f" Picked for {', '.join(_plain(name) for name in names)}: {_plain(' '.join(reasons))}" if names else ""
    what = "A structurally pruned Ultralytics model made of stock modules; it opens with plain `YOLO(path)`."
    own = "A structurally pruned PyTorch model."
    return (own if _is_own(snapshot) else what) + kept + chosen


def _figures(snapshot: Snapshot, row: TrialRow, export: ExportReport | None) -> str:
    checks = export.artefacts if export else ()
    heads = ["figure", _reference(snapshot), f"trial {row['id']}", "difference", *(check.label for check in checks)]
    return _table(heads, (list(_figure_row(snapshot, row, figure, checks)) for figure in reading.figures(snapshot)))


def _reference(snapshot: Snapshot) -> str:
    """Name the column that differences refer to: of several bases the first."""
    bases = snapshot.get("bases") or ()
    return f"base ({bases[0]['name']})" if bases else "base"


def _figure_row(
    snapshot: Snapshot, row: TrialRow, figure: reading.Figure, checks: Iterable[ArtefactCheck]
) -> Iterator[str]:
    base, here = reading.value(reading.base(snapshot), figure.name), reading.value(row, figure.name)
    spread = reading.interval(row, figure.name)
    interval = f" ({' to '.join(reading.printed(figure, end) for end in spread)})" if spread else ""
    yield figure.heading
    yield reading.printed(figure, base)
    yield reading.printed(figure, here) + interval
    yield reading.difference(figure, here, base)
    for check in checks:
        yield reading.printed(figure, _exported(check, figure.name))


def _exported(check: ArtefactCheck, name: str) -> float | None:
    if name == "size_mb":
        return check.size_bytes / 1e6 or None
    if name == "latency_ms":
        return float(check.latency["p50_ms"]) if check.latency else None
    return check.accuracy.get(name)


def _shape(imgsz: Size) -> str:
    return f"square {imgsz}" if isinstance(imgsz, int) else f"{written(imgsz)} (height x width)"


def _artefacts(export: ExportReport) -> str:
    lost = f"{export.metric} lost"
    heads = ("file", "precision", "size MB", "output difference", lost, "latency", "memory", "checks")
    notes = [
        f"Artefacts are validated on {_shape(export.imgsz)} px images, as is the checkpoint that they are held "
        f"against ({export.metric} {export.accuracy[export.metric]:.4f}); a validation with padded rectangles differs "
        "a little.",
        "Latency is of the file itself, interleaved with the base's float32 file in the same runtime, and as a share "
        "of that file's; memory is the peak of a process that opens and runs it, in brackets without the runtime.",
        *(f"{check.label}: not looked at: {said}" for check in export.artefacts for said in check.unchecked),
        *(f"{check.label}: {said}" for check in export.artefacts for said in check.remarks),
        *export.notes,
    ]
    digests = _table(("file", "sha256"), ((check.path, check.digest) for check in export.artefacts if check.path))
    return "\n\n".join([_table(heads, map(_artefact_row, export.artefacts)), *map(_plain, notes), digests])


def _artefact_row(check: ArtefactCheck) -> Sequence[str]:
    parity, timed, memory = check.parity, check.latency, check.memory
    return (
        check.path or check.format,
        check.precision,
        f"{check.size_bytes / 1e6:.2f}",
        f"{parity.max_abs:.2g} ({parity.loud:.1g} of the size, {parity.images} images)" if parity else "-",
        "not measured" if check.drop is None else f"{check.drop:+.4f}",
        f"{timed['p50_ms']:.2f} ms ({timed['ratio']['value']:.2f}, {timed['runtime']})" if timed else "-",
        f"{memory['peak_mb']:.0f} MB ({memory['peak_mb'] - memory['runtime_mb']:.0f})" if memory else "-",
        f"not delivered: {'; '.join(check.faults)}" if check.faults else "passed" if parity else "not checked here",
    )


def _versions(snapshot: Snapshot, export: ExportReport | None) -> Iterator[tuple[str, str]]:
    yield "ParetoPrune", str(snapshot.get("version", "unknown"))
    found = {**(snapshot.get("environment") or {}), **(export.versions if export else {})}
    yield from ((name, str(said)) for name, said in found.items() if isinstance(said, (str, int, float)))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_line(heads), _line(["---"] * len(heads)), *(_line([_plain(cell) for cell in row]) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(lines: Sequence[str]) -> str:
    """Format commands as a code block; the fence is longer than any run of backticks inside."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def _plain(text: object) -> str:
    """Escape text to one line without Markdown or HTML."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!])", r"\\\1", line)
