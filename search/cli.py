"""The command line: parses arguments, calls the library, prints the result.

Errors are one message on stderr and the exit code of `errors.exit_code`; `--debug` adds the traceback.
"""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from search.commands.arguments import FORMATS, check_form, file_and_keys, only_keys, split, study_and_keys
from search.errors import ConfigError, Interrupted, ParetoPruneError, check_system, exit_code, is_foreseen, printable
from ultralytics_versions.tested import installed, warning

app = typer.Typer(
    name="paretoprune",
    help="Search the pruning ratio of each layer of a YOLO model, and show the Pareto front.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_Command = TypeVar("_Command", bound=Callable[..., None])

Words = Annotated[list[str] | None, typer.Argument(metavar="[STUDY|RUN] [key=value ...]")]
Form = Annotated[str, typer.Option("-f", "--format", help="table, json or yaml")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Run = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's folder or name; default: the latest.")]
Ref = Annotated[
    str, typer.Argument(metavar="RUN:REF", help="17, 17-int8 (an export), pick, knee, base or best@latency_ms<=5.")
]
Target = Annotated[str | None, typer.Option("--target", help="Use the latencies of this device (bench --import).")]
Keys = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")]
Detach = Annotated[bool, typer.Option("--detach", help="Go on without this terminal.")]
MixVersions = Annotated[
    bool,
    typer.Option(
        "--mix-versions", help="Go on though the run was measured with other versions: old and new trials may differ."
    ),
]
Trust = Annotated[
    str | None,
    typer.Option("--trust", metavar="SHA256", help="Unpickle a checkpoint that is refused, once, if it has this hash."),
]


def _print_version(asked: bool) -> None:
    if asked:
        from search.results.snapshot import version

        print(f"paretoprune {version()}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search the pruning ratio of each layer of a YOLO model, and show the Pareto front."""
    if (said := warning(installed())) is not None:
        print(said, file=sys.stderr)


def main() -> None:
    """Entry point of `paretoprune`. SIGTERM ends every command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def guarded(command: _Command) -> _Command:
    """Print an exception as one message on stderr and exit with its code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            check_system()
            check_form(kwargs.get("form", FORMATS[0]))
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            print(error_text(error), file=sys.stderr)
            raise typer.Exit(exit_code(error)) from error

    return run  # type: ignore[return-value]


def error_text(error: BaseException) -> str:
    """Return the text that stderr shows for an exception."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if is_foreseen(error):
        label = "" if isinstance(error, ParetoPruneError) and error.exit_code == 130 else "error: "
        return printable(label + str(error).removeprefix("error: "))
    return printable(f"internal error: {type(error).__name__}: {error}\n  next: run the same command with --debug")


@app.command()
@guarded
def init(words: Keys = None, debug: Debug = False) -> None:
    """Write a commented study.yaml (here, or to a path) with model=, data= and any other key=value of a study."""
    from search.commands.init import write_starter

    target, keys = split(words)
    several = keys.get("model")
    for key in ("model", "data"):
        keys |= {key: str(keys[key])} if key in keys else {}
    if isinstance(several, list) and several:
        keys["model"] = list(map(str, several))
    path = write_starter(Path(target or "study.yaml"), **keys)
    Console().print(Text(f"wrote {path}\nnext: paretoprune check {path}"), soft_wrap=True)


@app.command()
@guarded
def check(
    words: Words = None,
    groups: Annotated[bool, typer.Option("--groups", help="Also list what has a ratio of its own.")] = False,
    form: Form = "table",
    trust: Trust = None,
    debug: Debug = False,
) -> None:
    """Check environment, prunable groups, reachable budgets and estimate the time."""
    from search.commands.check import check as facts_of
    from search.commands.progress import emit
    from search.config.spec import load_spec
    from search.prepare.trusted_checkpoint import with_clean_copy
    from search.present.terminal.check import render_check

    path, keys = study_and_keys(words)
    facts = facts_of(with_clean_copy(load_spec(path, {**keys, **_trusting(trust)})))
    emit(Console(), facts, form, render_check(facts, with_groups=groups))


@app.command()
@guarded
def sensitivity(words: Words = None, form: Form = "table", debug: Debug = False) -> None:
    """Measure (and cache) the pruning sensitivity of every part of the network."""
    from search.commands.progress import emit, following
    from search.prepare.sensitivity_curves import read_curves
    from search.present.terminal.sensitivity import render_sensitivity, sensitivity_facts
    from search.space import spaces_of
    from search.study import Study

    path, keys = study_and_keys(words)
    study = Study(path, **{**keys, "search.sampler": "auto"})
    with following(study, Console(stderr=True)) as shown:
        prepared = study.prepare([shown])
    found = []
    for place, space in enumerate(spaces_of(prepared.searched)):
        curves = read_curves(study.record.of_base(place).path / "sensitivity")
        blocks = {block.parameter: block.path for block in space.blocks}
        found.append(sensitivity_facts(str(study.record.path), curves, blocks))
    facts = found[0]
    if len(found) > 1:
        facts = {**facts, "bases": dict(zip(study.spec.base_names, found, strict=True))}
    emit(Console(), facts, form, render_sensitivity(facts))


@app.command()
@guarded
def search(words: Words = None, detach: Detach = False, trust: Trust = None, debug: Debug = False) -> None:
    """Search a study; continue its run if there is one. Ctrl-C stops, resume continues."""
    from search.orchestration.background import handed_over
    from search.study import Study

    path, keys = study_and_keys(words)
    study = Study(path, **{**keys, **_trusting(trust), **handed_over()})
    if detach:
        _detached("search", words, study, trust)
        return
    _follow(study)


@app.command()
@guarded
def resume(
    words: Words = None, detach: Detach = False, mix_versions: MixVersions = False, debug: Debug = False
) -> None:
    """Go on with a run; search.trials=, search.hours= and the like may be changed."""
    from search.orchestration.background import handed_over
    from search.references import find_run
    from search.study import Study

    target, keys = split(words)
    study = Study.load(find_run(target), mix_versions=mix_versions, **{**keys, **handed_over()})
    if detach:
        _detached("resume", [*(words or []), *(["--mix-versions"] if mix_versions else [])], study)
        return
    _follow(study)


@app.command()
@guarded
def stop(run: Run = None, debug: Debug = False) -> None:
    """Stop a running search; it can be resumed."""
    from search.references import find_run
    from search.run_folder.record import RunRecord

    record = RunRecord(find_run(run))
    if record.lock.is_held():
        record.request_stop()
        print(f"asked {record.lock.owner()} to stop {record.path}")
    else:
        print(f"{record.path} is not running")


@app.command()
@guarded
def status(run: Run = None, form: Form = "table", debug: Debug = False) -> None:
    """Show state, progress, picks and front of a run."""
    from search.commands.progress import emit
    from search.present.terminal.status import render_status

    content = _load(run).snapshot()
    emit(Console(), content, form, render_status(content))


@app.command()
@guarded
def ls(run: Run = None, form: Form = "table", debug: Debug = False) -> None:
    """List all runs, or all trials of a run."""
    from search.commands.progress import emit
    from search.commands.runs import runs
    from search.present.terminal.exports_and_plans import render_runs
    from search.present.terminal.tables import trials_table

    if run is None:
        found = runs(Path("runs/prune"))
        emit(Console(), found, form, render_runs(found))
        return
    content = _load(run).snapshot()
    emit(Console(), content["trials"], form, trials_table(content))


@app.command()
@guarded
def show(ref: Ref, form: Form = "table", debug: Debug = False) -> None:
    """Show one trial in full."""
    from search.commands.progress import emit
    from search.present.terminal.tables import front_table, trial_details
    from search.references import resolve
    from search.results.snapshot import current_snapshot, snapshot_with
    from search.results.snapshot_reader import trial

    picked = resolve(ref)
    if picked.trial is None:
        content = current_snapshot(picked.results)
        emit(Console(), content["base"], form, front_table({**content, "trials": []}))
        return
    content, point = snapshot_with(picked.results, picked.trial), str(picked.trial.id)
    emit(Console(), trial(content, point), form, trial_details(content, point))


@app.command()
@guarded
def report(
    run: Run = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: report.html of the run.")] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Add sample images and what-if data missing in older runs.")
    ] = False,
    target: Target = None,
    debug: Debug = False,
) -> None:
    """Write the whole run as one offline page."""
    study = _load(run)
    if fill:
        from search.prepare.backfill import fill as make

        make(study, lambda text: print(text, flush=True))
    print(study.report(out, target))


@app.command()
@guarded
def dashboard(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Runs to show; default: the latest.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Non-loopback addresses require --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 chooses a free port.")] = 8060,
    token: Annotated[str, typer.Option("--token", help="Access token; auto generates one.")] = "",
    optuna: Annotated[bool, typer.Option("--optuna", help="Also start optuna-dashboard, on the next port.")] = False,
    debug: Debug = False,
) -> None:
    """Serve the live page: inspect the front, set a budget, export a trial. Ctrl-C ends it."""
    from search.present.dashboard.main import serve
    from search.references import find_run

    found = [find_run(run) for run in runs] if runs else [find_run(None)]
    serve(found, host, port, token, optuna=optuna, say=lambda text: print(text, flush=True))


@app.command()
@guarded
def pick(
    run: Run = None,
    most: Annotated[list[str] | None, typer.Option("--max", help="latency_ms=5, or 80% (of the base).")] = None,
    least: Annotated[list[str] | None, typer.Option("--min", help="A lower limit, such as map50_95=0.4.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="A budget of the study, by name.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The knee: more accuracy becomes expensive.")] = False,
    one_se: Annotated[
        bool, typer.Option("--one-se", help="The smallest within one standard error of the best.")
    ] = False,
    target: Target = None,
    form: Form = "table",
    debug: Debug = False,
) -> None:
    """Pick the best trial within budgets; write picks/NAME/{pick.json,model.pt} if its weights were kept."""
    from search.commands.pick import choose, picked_facts
    from search.commands.progress import emit
    from search.present.terminal.pick import render_picked

    selection = _load(run).selection if target is None else _load(run).on(target)
    picked = choose(selection, most or [], least or [], budget, knee=knee, one_se=one_se)
    facts = picked_facts(picked)
    emit(Console(), facts, form, render_picked(facts, picked))


@app.command()
@guarded
def baselines(words: Words = None, form: Form = "table", debug: Debug = False) -> None:
    """Measure baselines as the trials are: baselines RUN uniform global random sibling=small.pt.

    lower_size and int8 (the base without training), uniform, global, random (fine-tuned, a trial each), sibling=FILE.
    Without names: those of the study. Measured baselines are kept; failed ones are tried again.
    """
    from search.commands.baselines import measure_named
    from search.commands.progress import emit
    from search.present.terminal.tables import baseline_table

    content = measure_named(words or [], Console())
    emit(Console(), content["baselines"], form, baseline_table(content))
    if form == "table":
        Console().print(Text(f"\n{content['verdict']}"), soft_wrap=True)


@app.command()
@guarded
def export(
    ref: Ref,
    words: Keys = None,
    max_drop: Annotated[float | None, typer.Option("--max-drop", help="Largest loss allowed, such as 0.02.")] = None,
    form: Form = "table",
    debug: Debug = False,
) -> None:
    """Export a trial and verify the artefacts: format=onnx,openvino quantize=8,32 [device=0].

    batch=4, dynamic=True, nms=True [conf=0.25 iou=0.7] say what the graph takes and gives.

    A checkpoint instead of a trial: pruned.pt data=data.yaml [base=best.pt imgsz= out=].
    """
    from search.commands.progress import emit
    from search.export.errors import DeliveryError
    from search.present.terminal.exports_and_plans import render_export

    make, folder = _exporting(ref, words, max_drop)
    try:
        made = make()
    except DeliveryError as error:
        if error.report is not None:
            emit(Console(), error.report.to_json(), form, render_export(error.report, folder))
        raise
    emit(Console(), made.to_json(), form, render_export(made, folder))


def _exporting(ref: str, words: list[str] | None, max_drop: float | None) -> tuple[Callable[[], Any], Path]:
    """Return the function that exports a trial or a checkpoint, and its target folder."""
    from search.commands.export_file import FileExport, export_file
    from search.references import resolve

    given = {} if max_drop is None else {"max_drop": max_drop}
    target, keys = split(words)
    if target is None and ref.endswith(".pt"):
        order = FileExport.of_file(Path(ref), {**keys, **given})
        return functools.partial(export_file, order), order.folder
    keys = {
        **only_keys(words, ("format", "quantize", "max_drop", "device", "batch", "dynamic", "nms", "conf", "iou")),
        **given,
    }
    picked = resolve(ref)
    return functools.partial(picked.export, keys.pop("format", "onnx"), **keys), picked.folder


@app.command()
@guarded
def bench(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODEL... [key=value ...]")] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Write a kit to time RUN's front on another device.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--import", help="Re-rank RUN's front by a kit's figures.json.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="With --import: name of that device.")] = None,
    form: Form = "table",
    debug: Debug = False,
) -> None:
    """Time models (.pt, .onnx, RUN, RUN:17, RUN:pick) interleaved with the first, the reference: runtime=openvino.

    runtime= one or more (ncnn,mnn) of onnxruntime, torch, openvino, tensorrt, torchscript, ncnn, mnn, litert,
    executorch, or "command:./time_on_board.sh {model}"; further keys: threads, device, batch, imgsz (640, or
    384,640: height, width), seconds (per model).

    Elsewhere: bench RUN --bundle kit.zip, bench RUN --import figures.json.
    """
    from search.commands.timing.command import run_bench

    run_bench(words or [], bundle, figures, name, form)


@app.command()
@guarded
def compare(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODEL... [key=value ...]")] = None,
    form: Form = "table",
    debug: Debug = False,
) -> None:
    """Compare models with the first, the reference: best.pt pruned.pt finetuned.pt finetuned.onnx data=data.yaml.

    Parameters, MACs, file size, latency (as bench: runtime=, threads=, seconds=, imgsz=), frames per second, objects
    found and accuracy. RUN, RUN:17 and RUN:pick are models too. Without data= nothing is validated.
    """
    from search.commands.progress import StatusLine, emit
    from search.commands.timing.compare import compare as rows_of
    from search.commands.timing.compare import order_of
    from search.present.terminal.compare import render_compare

    order = order_of(words or [])
    with StatusLine() as say:
        rows = rows_of(order, say)
    emit(Console(), rows, form, render_compare(rows))


@app.command()
@guarded
def prune(words: Keys = None, form: Form = "table", debug: Debug = False) -> None:
    """Prune one model without a search: model=best.pt ratio=0.3 [groups= imgsz= round_to= importance= ranking= out=].

    ratios=ratios.yaml instead of a ratio: lines such as model.4.m.0.cv1: 0.5, for a group, a layer or a block.

    plan=plan.json instead of a ratio rebuilds the model of an earlier plan, bit for bit.

    imgsz=384,640 is a height and a width, here and in every command; the pruned file remembers it.

    data=data.yaml ratio=0.5 steps=10 max_drop=0.05 prunes, fine-tunes and validates in steps until the metric has
    fallen too far [recover.epochs=1 ...]; the same command continues after an interruption.

    data=data.yaml groups=model.*.m.*.cv1 ratio=0.15 max_drop=0.02 tries one group after the other and keeps those whole
    that cost too much accuracy.

    mask=unstructured sparsity=0.8 [scope=layer], or mask=2:4, removes single weights instead of channels.

    The keys may also be read from a YAML file: prune steps.yaml [key=value ...].
    """
    from search.commands.progress import emit
    from search.commands.prune.groupwise import GroupwisePruning, prune_groups
    from search.commands.prune.one_shot import OneShotPruning, prune_once
    from search.commands.prune.sparsify import Mask, mask_once
    from search.present.terminal.exports_and_plans import render_groups, render_masked, render_pruned, render_steps

    keys = file_and_keys(words)
    if "mask" in keys:
        facts, drawn = mask_once(Mask.from_keys(keys)), render_masked
    elif "groups" in keys and {"data", "max_drop"} & keys.keys():
        facts, drawn = prune_groups(GroupwisePruning.from_keys(keys)), render_groups
    elif {"steps", "max_drop", "data"} & keys.keys():
        facts, drawn = _prune_gradually(keys), render_steps
    else:
        facts, drawn = prune_once(OneShotPruning.from_keys(keys)), render_pruned
    emit(Console(), facts, form, drawn(facts))


def _prune_gradually(keys: dict[str, Any]) -> dict[str, Any]:
    from search.commands.progress import StatusLine
    from search.commands.prune.iterative import IterativePruning, run_iterative

    order = IterativePruning.from_keys(keys)
    with StatusLine() as speaker:
        return run_iterative(order, speaker.tell, speaker.show)


@app.command()
@guarded
def finetune(ref: Ref, words: Keys = None, form: Form = "table", debug: Debug = False) -> None:
    """Fine-tune a trial in full: epochs=100, and any key of YOLO.train.

    data=other.yaml trains it on other data, which may have another number of classes: only the class layers are new.

    A checkpoint instead of a trial: pruned.pt data=data.yaml [base=best.pt imgsz= out=]; masks are kept.
    """
    from search.commands.progress import emit
    from search.commands.prune.finetune import Tuning, finetune_file, is_own_data, tuning_elsewhere
    from search.commands.prune.finetune import finetune as run_finetune
    from search.present.terminal.exports_and_plans import render_tuned
    from search.present.terminal.pick import render_finetuned
    from search.references import resolve

    target, keys = split(words)
    if target is None and ref.endswith(".pt"):
        made_of_file = finetune_file(Tuning.of_file(Path(ref), keys))
        emit(Console(), made_of_file, form, render_tuned(made_of_file))
        return
    if target is not None:
        raise ConfigError("expected key=value", expected="paretoprune finetune RUN:17 epochs=100")
    picked = resolve(ref)
    if "data" in keys and is_own_data(picked, keys["data"]):
        del keys["data"]
    if "data" in keys:
        made_elsewhere = finetune_file(tuning_elsewhere(picked, keys))
        emit(Console(), made_elsewhere, form, render_tuned(made_elsewhere))
        return
    made = run_finetune(picked, keys)
    facts = {**made.to_json(), "model": str(picked.folder / "finetuned.pt")}
    emit(Console(), facts, form, render_finetuned(facts, picked))


def _follow(study: Any) -> None:
    from search.commands.progress import following, print_summary

    console = Console()
    try:
        with following(study, console) as shown:
            study.search([shown])
    except Interrupted:
        if study.record.args_path.is_file():
            print_summary(study, console)
        raise
    print_summary(study, console)


def _detached(command: str, words: list[str] | None, study: Any, trust: str | None = None) -> None:
    from search.orchestration.background import detach

    asked = [command, *(words or []), *([] if trust is None else ["--trust", trust])]
    made = detach(asked, study.record)
    print(f"process {made['pid']} searches {made['run']}; its output is in {made['log']}")
    print(f"next: paretoprune status {made['run']}; paretoprune stop {made['run']} ends it")


def _trusting(digest: str | None) -> dict[str, Any]:
    return {} if digest is None else {"trust": digest}


def _load(run: str | None) -> Any:
    from search.references import find_run
    from search.study import Study

    return Study.load(find_run(run))


if __name__ == "__main__":
    main()
