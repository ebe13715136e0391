"""How the throughput of a search grows with the nodes of a Ray cluster, and what a long run costs its readers.

    python benchmarks/scale.py                        # 1, 2 and 4 nodes, ten trials a node, about 8 seconds a trial
    python benchmarks/scale.py --finished 3000 10000  # seconds to read finished runs of so many trials, no cluster

The nodes are simulated on this machine (`ray.cluster_utils.Cluster`), one trial each, and a trial sleeps: what is
measured is what the program itself costs, from the proposer to the files that come home. Trials take up to a quarter
more or less than 8 seconds, as real ones are not equal. Asked for: 0.9 of linear. A rate goes from the begin of the
first trial to the end of the last, so that the start of the cluster is not in it; "whole" is the search with its start.

Of a finished run (`search.testing.finished_run`) each figure is the processor time of one reader after all imports.
Asked for: below 2 s of 3,000 trials and below 5 s of 10,000. "drawn" is what a search does after every trial.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.commands.runs import runs
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator, WitnessedEvaluator

_UNEVEN = 0.25


@dataclass(frozen=True)
class Row:
    """One search: its nodes and trials, the seconds that its trials slept, and two spans."""

    nodes: int
    trials: int
    slept_s: float
    span_s: float
    whole_s: float

    @property
    def rate(self) -> float:
        """Trials a minute."""
        return 60 * self.trials / self.span_s


def measure(nodes: int, per_node: int, sleep_s: float) -> Row:
    """Search with `nodes` trials at once on as many simulated nodes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        cluster.add_node(num_cpus=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _searched(Path(folder), nodes, nodes * per_node, sleep_s, cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _searched(folder: Path, nodes: int, trials: int, sleep_s: float, address: str) -> Row:
    (folder / "best.pt").write_bytes(b"weights")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\n")
    keys: dict[str, Any] = {"engine": "ray", "address": address, "workers": nodes, "trials": trials, "sampler": "tpe"}
    known = KnownFrontEvaluator(sleep_s=sleep_s, uneven=_UNEVEN)
    study = Study(
        model=str(folder / "best.pt"),
        data=str(folder / "data.yaml"),
        project=str(folder / "runs"),
        search=keys,
        parts=Parts(prepare=KnownFront(WitnessedEvaluator(folder / "begun", known))),
    )
    began = time.perf_counter()
    study.search()
    whole_s = time.perf_counter() - began
    first = min(path.stat().st_mtime for path in folder.glob("begun/*"))
    last = max(path.stat().st_mtime for path in study.record.path.glob("trials/*/result.json"))
    return Row(nodes, trials, sum(map(known.slept_s, range(trials))), last - first, whole_s)


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| nodes | trials | a minute | of linear | asleep | whole |", "|---|---|---|---|---|---|"]
    for row in rows:
        linear = row.rate / (rows[0].rate / rows[0].nodes * row.nodes)
        asleep = f"{100 * row.slept_s / row.nodes / row.span_s:.0f} %"
        lines.append(f"| {row.nodes} | {row.trials} | {row.rate:.1f} | {linear:.2f} | {asleep} | {row.whole_s:.0f} s |")
    return "\n".join(lines)


def read(trials: int) -> dict[str, float]:
    """Return the processor seconds of each reader of a finished run."""
    from search.present.terminal.status import render_status
    from search.testing.finished_run import write_finished_run

    with tempfile.TemporaryDirectory() as folder:
        run = write_finished_run(Path(folder), trials).path
        readers: dict[str, Callable[[], object]] = {
            "drawn": lambda: Study.load(run).refresh(),
            "status": lambda: render_status(Study.load(run).snapshot()),
            "ls": lambda: runs(run.parent),
            "report": lambda: Study.load(run).report(),
            "pick": lambda: Study.load(run).pick(budget="edge"),
        }
        return {name: _seconds(reader) for name, reader in readers.items()}


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def read_table(lengths: Sequence[int]) -> str:
    """Markdown, a row for each length of a run."""
    read(20)  # imports
    rows = {trials: read(trials) for trials in lengths}
    heads = list(next(iter(rows.values())))
    lines = [f"| trials | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for trials, seconds in rows.items():
        lines.append(f"| {trials} | {' | '.join(f'{seconds[name]:.1f} s' for name in heads)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=10, help="a node")
    parser.add_argument("--sleep", type=float, default=8.0, help="seconds a trial, about")
    parser.add_argument("--finished", type=int, nargs="+", help="trials of the runs that are read")
    asked = parser.parse_args()
    if asked.finished:
        print(read_table(asked.finished))
        return
    print(table([measure(nodes, asked.trials, asked.sleep) for nodes in asked.nodes]))


if __name__ == "__main__":
    main()
