"""What `paretoprune check` says of a study's target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from search.config.targets.record import TargetRecord


def target_lines(facts: Mapping[str, Any] | None) -> Iterator[Text]:
    """Yield how the bases fit, what the pack set, what is measured in the device's place, and where it is from."""
    if facts is None:
        return
    record = TargetRecord.model_validate({key: value for key, value in facts.items() if key != "fits"})
    for row in facts["fits"]:
        yield Text(fit_sentence(row, record.device), style="" if row["ratio"] is not None else "red")
    first, *others = record.said()
    yield Text(first)
    for line in others:
        yield Text(f"  {line}", style="yellow" if line in record.measured else "")
    for note in record.notes:
        yield Text(f"  {note}")
    yield Text(
        f"  deliver: paretoprune export RUN:pick format={record.export.format} quantize={record.export.quantize}"
    )
    yield Text(f"  sources: {' '.join(record.sources)}" if record.sources else "  sources: none are named")
    yield Text()


def fit_sentence(row: Mapping[str, Any], device: str) -> str:
    """Return `yolov8s fits the IMX500 from ratio 0.57 on: 2.229 of 2.551 MB`."""
    name, ratio, sizes = row["base"], row["ratio"], f"{row['mb']:.3f} of {row['limit_mb']:.3f} MB"
    if ratio is None:
        return f"{name} does not fit the {device}, even at the largest ratio of the study (space.ratio): {sizes}"
    return f"{name} fits the {device} {f'from ratio {ratio:.2f} on' if ratio else 'as it is'}: {sizes}"
