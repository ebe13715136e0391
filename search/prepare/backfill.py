"""Create derived data that older runs lack: sample images and the what-if table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.image_size import Size
from search.config.spec import StudySpec
from search.evaluate.sample_images import FOLDER, draw_samples
from search.prepare.whatif_table import FILE, what_if_table
from search.run_folder.atomic import write_json
from search.run_folder.weights import FILE as WEIGHTS

if TYPE_CHECKING:
    from search.study import Study

Say = Callable[[str], None]


def fill(study: Study, say: Say = lambda text: None) -> int:
    """Draw the samples of the base and of every trial with weights on disk, and write base/whatif.json.

    Returns the number of created items; existing ones are kept.
    """
    from search.evaluate.pruning_evaluator import resolve_device

    made, spec = 0, study.spec
    table = study.record.base_dir / FILE
    if not table.is_file():
        say("tracing the model")
        made += _write_table(table, trace_table(spec), [str(row["name"]) for row in study.record.read_groups()], say)
    for name, weights, imgsz, folder in _lacking(study):
        say(f"sample images of {name}")
        made += bool(draw_samples(weights, spec.data, imgsz=imgsz, device=resolve_device(spec.device), folder=folder))
    return made


def _write_table(path: Path, table: dict[str, Any], recorded: list[str], say: Say) -> bool:
    """Write the table; False if this version names the groups differently from the run's."""
    if recorded and recorded != table["cost"]["groups"]:
        say("the groups of this run have other names in this version: no what-if")
        return False
    write_json(path, table, durable=False)
    return True


def trace_table(spec: StudySpec) -> dict[str, Any]:
    """Compute a study's base/whatif.json from its model alone."""
    from pruning import trace
    from search.evaluate.pruning_evaluator import sizes_of
    from search.evaluate.workload import example_input, load_model
    from search.space import Space

    model = load_model(spec.model)
    graphs: dict[Size, Any] = {size: trace(model, example_input(model, size)) for size in sizes_of(spec)}
    space = Space.from_graph(graphs[spec.imgsz], spec.space, spec.sizes)
    return what_if_table(graphs, space, spec.space.round_to)


def _lacking(study: Study) -> Iterator[tuple[str, Path, Size, Path]]:
    base = study.record.base_dir / FOLDER
    if not base.is_dir():
        yield "the base", Path(study.spec.model), study.spec.imgsz, base
    for trial in study.trials():
        folder = study.record.trial_dir(trial.number)
        if (folder / WEIGHTS).is_file() and not (folder / FOLDER).is_dir():
            yield f"trial {trial.number}", folder / WEIGHTS, trial.candidate.imgsz, folder / FOLDER
