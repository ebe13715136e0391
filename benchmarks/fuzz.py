"""Random studies and command lines, for as long as one likes: none may end as an internal error.

    make fuzz MINUTES=60

Each example is a study.yaml (a sensible one whose values are replaced, or whose text is cut and mixed) and key=value
words. It is either accepted, and then its args.yaml reads back as the same study, or refused by one message with exit
code 2. What fails is reduced by Hypothesis to the smallest example and printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from search.cli import error_text
from search.commands.arguments import file_and_keys, study_and_keys
from search.commands.prune.groupwise import GroupwisePruning
from search.commands.prune.iterative import IterativePruning
from search.commands.prune.one_shot import OneShotPruning
from search.commands.prune.sparsify import Mask
from search.config.overrides import Order
from search.config.spec import StudySpec, load_spec
from search.errors import exit_code

SLOW_S = 20.0
"""Processor time of one study, at most."""
STUDY: dict[str, Any] = {
    "model": "best.pt",
    "data": "data.yaml",
    "imgsz": 640,
    "device": "auto",
    "name": "drone",
    "project": "runs/prune",
    "storage": None,
    "target": "coral",
    "search": {"engine": "optuna", "sampler": "auto", "trials": 150, "hours": 9.5, "until": "07:00", "workers": 1},
    "space": {"ratio": [0.0, 0.8], "round_to": 8, "groups": "auto", "ignore": ["*.cv1"], "imgsz": [640], "depth": True},
    "figures": {"fuzzed_error": {"unit": "fraction", "direction": "min"}},
    "objectives": ["map50_95", "latency_ms"],
    "constraints": {"latency_ms": "<=8"},
    "budgets": {"edge": {"latency_ms": 5}},
    "recover": {"epochs": 3, "fraction": 0.2, "lr0": 1e-4, "distill": True},
    "latency": {"runtime": "onnxruntime", "device": "cpu", "threads": 1, "seconds": 6.0},
    "keep": {"weights": "front", "max_gb": 20},
    "baselines": ["lower_size", {"sibling": "small.pt"}],
    "notify": {"command": "mail -s done me"},
}
SHARP = (
    *("2024-13-45", "2024-01-05", "!!int abc", "!!float", "!!python/object:os.system", "0x_", "0b_", "0o9", "9" * 5000),
    *(
        ".inf",
        "-.inf",
        ".nan",
        "1e308",
        "1e400",
        "1:99",
        "1:1:1.5",
        "true",
        "no",
        "null",
        "~",
        "=",
        "<<",
        "''",
        '"\\0"',
    ),
    *(
        '"\\e[31m"',
        "\x1b[31m",
        "[" * 2000,
        "{a: " * 900,
        "- " * 200,
        "? ",
        ": ",
        "*a",
        "&a",
        "!t",
        "%",
        "@",
        "`",
        "|",
        ">",
    ),
    *("x" * 300, "../" * 2000, "/", ".", "~nobody/x", "/dev/zero", "x.py:f", "x.py:f@d", "command:", "command:'x"),
    *("s3://u:p@h", "postgresql://u:p", "ü", "\u202e", "\ufeff", "\ud83d", "\t", "\r", "\n", "#", " #", ",", "}", "]"),
)
"""Texts at which a reader may stumble."""

_TEXTS = st.one_of(st.sampled_from(SHARP), st.text(max_size=12))
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    _TEXTS,
    st.sampled_from([10**30, -1, 0, 10**400]),
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(_TEXTS, _LEAVES), inner, max_size=3),
    max_leaves=6,
)


def _paths(study: Mapping[str, Any]) -> list[tuple[str, ...]]:
    below = [(key, inner) for key, value in study.items() if isinstance(value, dict) for inner in value]
    return [*((key,) for key in study), *below]


@st.composite
def studies(draw: st.DrawFn) -> str:
    """The text of a study: values replaced, keys added, then slices of the text replaced."""
    study = {key: dict(value) if isinstance(value, dict) else value for key, value in STUDY.items()}
    for path in draw(st.lists(st.sampled_from([*_paths(STUDY), ("new",), ("search", "new")]), max_size=3)):
        section = study if len(path) == 1 else study[path[0]]
        if isinstance(section, dict):
            section[path[-1]] = draw(VALUES)
    try:
        text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, ValueError):  # a number of more digits than Python writes
        text = yaml.safe_dump(STUDY, sort_keys=False)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 12))
        text = text[:start] + draw(_TEXTS) + text[end:]
    return text


@st.composite
def words(draw: st.DrawFn) -> list[str]:
    """Overrides as a shell passes them on: without NUL."""
    keys = st.one_of(st.sampled_from([".".join(path) for path in _paths(STUDY)]), _TEXTS)
    pairs = draw(st.lists(st.tuples(keys, st.one_of(_TEXTS, VALUES.map(_shown))), max_size=3))
    return [f"{key}={value}".replace("\0", "") for key, value in pairs]


def _shown(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python writes
        return "9" * 5000


def check_study(folder: Path, text: str, given_words: list[str]) -> str:
    """Read one study as `paretoprune search` does; return `accepted` or the message that refuses it.

    Raises AssertionError for an internal error, another exit code, or a study that does not read back equal.
    """
    path, begin = folder / "study.yaml", time.process_time()
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        spec = load_spec(*study_and_keys([str(path), *given_words]))
    except Exception as error:  # sorted out by its own text
        return _refused(error, begin)
    _check_reads_back(folder, spec)
    return "accepted"


def check_keys(folder: Path, text: str, given_words: list[str], order: type[Order]) -> str:
    """Read the keys of `paretoprune prune`, from a file too. Raises AssertionError as `check_study` does."""
    path, begin = folder / "steps.yaml", time.process_time()
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        order.from_keys({**file_and_keys([str(path), *given_words]), **({"mask": "2:4"} if order is Mask else {})})
    except Exception as error:  # sorted out by its own text
        return _refused(error, begin)
    return "accepted"


def _refused(error: Exception, begin: float) -> str:
    text = error_text(error)
    assert "internal error" not in text and exit_code(error) == 2, text
    assert text.startswith("error: ") and text.count("error: error:") == 0, text
    assert "\x1b" not in text and "\0" not in text, text
    assert time.process_time() - begin < SLOW_S, "too slow"
    return text


def _check_reads_back(folder: Path, spec: StudySpec) -> None:
    path = folder / "args.yaml"
    recorded = {**spec.resolved(), "fingerprint": {}}  # what tells it from a study
    path.write_text(yaml.safe_dump(recorded, sort_keys=False, allow_unicode=True), encoding="utf-8")
    again = load_spec(path)
    assert again.resolved() == spec.resolved(), (again.resolved(), spec.resolved())


ORDERS: tuple[type[Order], ...] = (OneShotPruning, IterativePruning, GroupwisePruning, Mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    asked = parser.parse_args()
    first = int(time.time()) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory(prefix="paretoprune-fuzz-") as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        starting_folder(folder)
        sys.exit(_fuzz(folder, first, time.monotonic() + 60 * asked.minutes))


def starting_folder(folder: Path) -> None:
    """Write the files that STUDY names."""
    (folder / "best.pt").write_bytes(b"no checkpoint")
    (folder / "data.yaml").write_text("path: .\n")


def _fuzz(folder: Path, first: int, end: float) -> int:
    done, accepted, number = 0, 0, first

    def one(text: str, given_words: list[str], order: type[Order]) -> None:
        nonlocal done, accepted
        outcome = check_study(folder, text, given_words)
        check_keys(folder, text, given_words, order)
        done, accepted = done + 1, accepted + (outcome == "accepted")

    while time.monotonic() < end:
        run = given(studies(), words(), st.sampled_from(ORDERS))(one)
        run = settings(
            max_examples=500,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(seed(number)(run))
        try:
            run()
        except AssertionError as fault:
            print(f"seed {number}: {fault}\n{''.join(getattr(fault, '__notes__', []))}", flush=True)
            return 1
        number += 1
        print(f"{done} studies, {accepted} accepted, seeds {first} to {number - 1}", flush=True)
    return 0


if __name__ == "__main__":
    main()
