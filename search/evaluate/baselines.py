"""Baselines: what a user would do instead of a search, measured as trials are. They are never on the front.

lower_size      the base at smaller inputs: no training          cheap
int8            the base in INT8 on the study's runtime          cheap    (in float32 where the study is in INT8)
sibling:FILE    the user's own smaller model                     cheap
uniform         one ratio for the whole network, fine-tuned      a trial each
global          one ranking of all channels, fine-tuned          a trial each
random          random vectors, fine-tuned                       a trial each
train:FILE      a network trained on the study's data            as long as all trials
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from objectives.image_size import Size, area, rounded, written
from search.config.baseline_names import SIBLING, TRAIN, TRAINED
from search.run_folder.artefact_files import digest as file_digest
from search.space import AnySpace, JointSpace, Space
from search.trial import Candidate

_UNIFORM = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_GLOBAL = (0.15, 0.3, 0.45, 0.6)
_RANDOM = 5
_SIZES = (0.75, 0.5)
_THE_BASE = "the base"


@dataclass(frozen=True)
class Baseline:
    """A baseline to measure.

    Attributes:
        name: as shown in tables and sentences; `slug`: the same as a folder's name.
        candidate: of uniform and random baselines.
        ratio: of global ones: the share of all channels to remove.
        imgsz: of those at a lower input size, in pixels.
        model: of a sibling, and of a network to train: its architecture or checkpoint.
        seconds: that a network may be trained, once the search has ended.
        precision: of the base in another precision.
        base: place of the base that it is made of among those of the study.
    """

    name: str
    kind: str
    slug: str
    candidate: Candidate | None = None
    ratio: float | None = None
    imgsz: Size | None = None
    model: Path | None = None
    precision: str | None = None
    seconds: float | None = None
    base: int = 0

    @property
    def is_trained(self) -> bool:
        """True if it costs as much as a trial."""
        return self.kind in TRAINED

    def of_base(self, place: int, name: str) -> Baseline:
        """Return the same baseline of one base of several, which is called so in tables and sentences."""
        of = (
            f"{name}{self.name.removeprefix(_THE_BASE)}"
            if self.name.startswith(_THE_BASE)
            else f"{self.name} of {name}"
        )
        candidate = None if self.candidate is None else replace(self.candidate, base=place)
        return replace(
            self, name=of, slug=f"{self.slug}-of-{place + 1}" if place else self.slug, candidate=candidate, base=place
        )


def baseline_rows(
    named: Sequence[str], space: AnySpace, imgsz: Size, seed: int, names: Sequence[str] = ()
) -> tuple[Baseline, ...]:
    """Return the baselines that a study's `baselines` name, without duplicates; of several bases those of each.

    Args:
        space: of the study; uniform and random ratios stay within it.
        imgsz: the study's input size.
        names: of the bases, where there are several.
    """
    found: dict[str, Baseline] = {}
    for text in named:
        if text.startswith((SIBLING, TRAIN)):
            rows = list(_sibling(text) if text.startswith(SIBLING) else _to_train(text))
        elif isinstance(space, JointSpace):
            made = (_MAKERS[text](own, imgsz, seed) for own in space.spaces)
            rows = [row.of_base(n, names[n]) for n, of_one in enumerate(made) for row in of_one]
        else:
            rows = list(_MAKERS[text](space, imgsz, seed))
        found |= {row.slug: row for row in rows}
    return tuple(found.values())


def _base(space: Space, imgsz: Size, seed: int) -> Iterator[Baseline]:
    """Yield nothing: every table begins with the base already."""
    yield from ()


def _lower_sizes(space: Space, imgsz: Size, seed: int) -> Iterator[Baseline]:
    for share in _SIZES:
        size = rounded(imgsz, space.stride, share)
        if area(size) < area(imgsz):
            name = written(size)
            yield Baseline(f"{_THE_BASE} at {name} px", "lower_size", f"lower_size-{name}", imgsz=size)


def _int8(space: Space, imgsz: Size, seed: int) -> Iterator[Baseline]:
    """Yield the base in INT8; where the study's own precision is INT8, which every table begins with, in float32."""
    if space.precisions[0] == "int8":
        yield Baseline(f"{_THE_BASE} in FP32", "fp32", "fp32", precision="fp32")
    else:
        yield Baseline(f"{_THE_BASE} in INT8", "int8", "int8", precision="int8")


def _uniform(space: Space, imgsz: Size, seed: int) -> Iterator[Baseline]:
    seen: list[Candidate] = []
    for ratio in _UNIFORM:
        candidate = space.uniform(ratio, imgsz if imgsz in space.sizes else None)
        if candidate not in seen:  # bounds of the space make two ratios the same
            seen.append(candidate)
            yield Baseline(f"uniform {ratio:g}", "uniform", f"uniform-{ratio:g}", candidate)


def _global(space: Space, imgsz: Size, seed: int) -> Iterator[Baseline]:
    for ratio in _GLOBAL:
        yield Baseline(f"global ranking {ratio:g}", "global", f"global-{ratio:g}", ratio=ratio)


def _random(space: Space, imgsz: Size, seed: int) -> Iterator[Baseline]:
    size = imgsz if imgsz in space.sizes else space.sizes[0]
    for number in range(1, _RANDOM + 1):
        draw = np.random.default_rng([seed, number, 4])
        ratios = {d.name: float(draw.uniform(d.low, d.high)) for d in space.dimensions}
        candidate = Candidate(ratios, size, space.precisions[0])
        yield Baseline(f"random {number}", "random", f"random-{number}", candidate)


def _sibling(text: str) -> Iterator[Baseline]:
    """Yield a sibling, identified by the file's content too: another model under the same name is another baseline."""
    path = Path(text.removeprefix(SIBLING))
    digest = file_digest(path)[:8] if path.is_file() else "missing"
    yield Baseline(path.name, "sibling", f"sibling-{path.stem}-{digest}", model=path)


def _to_train(text: str) -> Iterator[Baseline]:
    """Yield a network to train, identified by its file's content, or by its name where it is Ultralytics' own."""
    path = Path(text.removeprefix(TRAIN))
    digest = file_digest(path)[:8] if path.is_file() else "stock"
    name = f"{path.stem} trained as long as the search"
    yield Baseline(name, "train", f"train-{path.stem}-{digest}", model=path)


_MAKERS: Mapping[str, Callable[[Space, Size, int], Iterator[Baseline]]] = {
    "base": _base,
    "lower_size": _lower_sizes,
    "int8": _int8,
    "uniform": _uniform,
    "global": _global,
    "random": _random,
}
