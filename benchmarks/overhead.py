"""What a search costs beside what it is for.

    python benchmarks/overhead.py runs/prune/digits         # a finished run: where the time of its trials went
    python benchmarks/overhead.py --recorded 10000          # ask and tell of a study that has so many trials

A trial is for its training, its validation and its latency rounds. Everything else is overhead: the score before the
fine-tune, planning, surgery, export, saving, and what the coordinator does between two trials (asking,
telling, the snapshot, a process). Goals: at most 10 % of a trial's time; at 10,000 trials, ask and tell under 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session

from objectives.objective import Estimate, objectives_named
from search.propose.initial_candidates import opening
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer, _distributions
from search.space import Space
from search.study import Study
from search.trial import Measurement, TrialState

PURPOSE = ("recover", "accuracy", "latency")
SAMPLERS = ("auto", "tpe", "nsga2", "random")
OBJECTIVES = ("map50_95", "latency_ms", "params_m")
REPEATS = 5


def spent(run: Path) -> dict[str, Any]:
    """Seconds of the trials of a run by phase, and the seconds between trials."""
    study = Study.load(run)
    trials = [t for t in study.trials() if t.state == TrialState.COMPLETE and t.same_as is None and t.measurement]
    phases: Counter[str] = Counter()
    for trial in trials:
        assert trial.measurement is not None
        phases.update({name: seconds for name, seconds in trial.measurement.seconds.items()})
    between = _between(run / "search.log")
    purpose = sum(phases[name] for name in PURPOSE)
    total = sum(phases.values()) + between * len(trials)
    return {
        "trials": len(trials),
        "phases": {name: seconds / len(trials) for name, seconds in phases.most_common()},
        "between": between,
        "overhead": 1 - purpose / total,
    }


def _between(log: Path) -> float:
    """Median seconds from the end of a trial to the start of the next, as the log has them."""
    ends, gaps = None, []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            moment = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")
        except ValueError:
            continue
        if " starts (" in line and ends is not None:
            gaps.append((moment - ends).total_seconds())
            ends = None
        elif " trial " in line and (" complete" in line or " screened" in line):
            ends = moment
    return statistics.median(gaps) if gaps else 0.0


def ask_and_tell(sampler: str, recorded: int, folder: Path) -> dict[str, float]:
    """Median seconds of an ask and of a tell of a study with so many trials, on the space of the digits study."""
    from search_table import prepared_study

    prepared = prepared_study("yolov8n")[1]
    guide, space = prepared.guide if sampler == "auto" else None, prepared.space
    objectives = objectives_named(OBJECTIVES)
    random = np.random.default_rng(0)
    first = guide.opening() if guide else opening(space)

    def opened() -> OptunaProposer:
        url = sqlite_url(folder / f"{sampler}.db")
        return OptunaProposer(url, "overhead", space, objectives, sampler=sampler, opening=first, guide=guide)

    proposer = opened()
    proposer.close()
    record(folder / f"{sampler}.db", space, random.uniform(0, 0.9, recorded).tolist(), random)
    proposer = opened()
    asks, tells = [], []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        proposal = proposer.ask()
        asked = time.perf_counter()
        figures = {"map50_95": 0.5, "latency_ms": 1.5, "params_m": 1.0}
        exact = {name: Estimate.exact(value) for name, value in figures.items()}
        proposer.tell(proposal.number, Measurement(exact, score=0.1))
        asks.append(asked - begin)
        tells.append(time.perf_counter() - asked)
    proposer.close()
    return {
        "first": asks[0],
        "ask": statistics.median(asks[1:]),
        "tell": statistics.median(tells[1:]),
    }


def record(path: Path, space: Space, levels: Sequence[float], random: np.random.Generator) -> None:
    """Complete trials of uniform ratios, written past Optuna: its own way takes an hour for ten thousand."""
    known = {name: (one, distribution_to_json(one)) for name, one in _distributions(space).items()}
    now = datetime.now()
    with Session(create_engine(f"sqlite:///{path}")) as session:
        for number, level in enumerate(levels):
            trial = dict(trial_id=number + 1, number=number, study_id=1, state="COMPLETE")
            session.execute(insert(models.TrialModel), {**trial, "datetime_start": now, "datetime_complete": now})
            vector = space.vector(space.uniform(level))
            rows = [
                {"trial_id": number + 1, "param_name": n, "param_value": d.to_internal_repr(vector[n])}
                | {"distribution_json": text}
                for n, (d, text) in known.items()
            ]
            session.execute(insert(models.TrialParamModel), rows)
            figures = {
                "map50_95": 0.6 * (1 - level**2),
                "latency_ms": 2 * (1 - 0.8 * level),
                "params_m": 3 * (1 - level),
            }
            figures["map50_95"] += 0.01 * float(random.standard_normal())
            values = [figures[name] for name in OBJECTIVES]
            rows = [dict(trial_id=number + 1, objective=n, value=v, value_type="FINITE") for n, v in enumerate(values)]
            session.execute(insert(models.TrialValueModel), rows)
            said = {"figures": figures, "score": 0.2 * level, "screened": False, "source": "recorded"}
            rows = [dict(trial_id=number + 1, key=key, value_json=json.dumps(value)) for key, value in said.items()]
            session.execute(insert(models.TrialUserAttributeModel), rows)
        session.commit()


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--recorded", type=int)
    parser.add_argument("--samplers", type=lambda text: text.split(","), default=list(SAMPLERS))
    asked = parser.parse_args()
    if asked.run:
        found = spent(asked.run)
        print(json.dumps(found, indent=1))
        print(f"overhead: {100 * found['overhead']:.1f} % of {found['trials']} trials (at most 10 %)")
    if asked.recorded:
        print("| sampler | first ask | ask | tell |\n|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            for sampler in asked.samplers:
                took = ask_and_tell(sampler, asked.recorded, Path(folder))
                print(f"| {sampler} | {took['first']:.2f} s | {took['ask']:.3f} s | {took['tell']:.3f} s |", flush=True)


if __name__ == "__main__":
    main()
