"""Write the study.yaml of `paretoprune init`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from objectives.image_size import written
from objectives.objective import MAIN_FIGURES
from search.config import yaml_source
from search.config.budgets import without_replaced
from search.config.inputs.checkpoint_facts import checkpoint_facts
from search.config.inputs.paths import absolute
from search.config.spec import folder_name, load_spec
from search.config.targets.pack import SUFFIXES
from search.config.targets.record import TargetRecord
from search.errors import ConfigError
from search.run_folder.atomic import write_atomic

_TEXT = """\
# A study for paretoprune. Every key can be changed on the command line: paretoprune search study.yaml search.trials=50
model: {model}  # an Ultralytics checkpoint; paths are relative to this file
data: {data}  # the data set that it was trained on
imgsz: {imgsz}              # what the model was trained at, where its checkpoint says so
device: auto            # where to train and validate: auto, cpu, 0, ...
name: {name}  # the run goes to {run}

search:
  engine: optuna        # ray: trials on a cluster, see docs/cluster.md
  sampler: auto         # auto, tpe, nsga2, random, qmc, gp; cmaes where one objective is searched
  trials: 150
  hours: 9              # whichever comes first; null for no limit
  until: null           # "07:00": be done, with everything, when the clock shows that; null for no limit
  patience: null        # 40: end when the front has not grown for so many trials; null for no limit
  promote: true         # networks of the front are trained further where that is worth more than a new candidate
  confirm: 1            # 3: train the picks twice more at the end, with other seeds
  workers: 1            # trials at once
  seed: 0

space:
  ratio: [0.0, 0.8]     # share of channels to remove, per stage of the network
  round_to: 8           # widths are multiples of this; auto: what suits runtime and precision
  groups: auto          # auto: one ratio per stage; each: one per group; or patterns: ["model.4.*"]
  ignore: []            # patterns of layers to leave alone
  depth: true           # whole residual blocks may be removed too
  levels: true          # so may detection levels (P3, P4, P5) that get less than 1 % of the objects; or name them: [P5]

objectives: [{accuracy}, latency_ms, params_m]
# measured where they are named: e2e_ms (picture to objects), memory_mb, energy_mj; docs/latency.md
constraints: {{}}       # for example {{latency_ms: "<=8", per_class_drop: 0.1}}: what is worse is never on the front
budgets:                # the front is searched once; each budget gets its pick; 60% of the base's, or fps: 30, do too
  edge: {{latency_ms: 5}}

recover:                # the short fine-tune of a trial; further keys go to YOLO.train
  epochs: 3             # none for what lost nothing, up to four times as many for what lost much (spend: equal: always)
  fraction: 0.2         # of the training images
  distill: true         # the unpruned model teaches

latency: {{runtime: onnxruntime, device: cpu, threads: 1, batch: 1}}
baselines: [lower_size, int8]   # measured at the end, to compare with; also uniform, global, random, {{sibling: s.pt}}
keep: {{weights: front, max_gb: 20}}
notify: {{command: null}}  # a shell line that gets the morning summary, for example: mail -s paretoprune me@example.org
track: []               # where the search is logged besides: mlflow, tensorboard, jsonl
"""


def write_starter(path: Path, /, model: str | Sequence[str] = "best.pt", data: str = "data.yaml", **keys: Any) -> Path:
    """Write a commented study.yaml and return its path; of several models the first decides what is filled in.

    Args:
        keys: of a study, dotted ones reach into a section; each takes the place of the value that it would have.

    Raises:
        ConfigError: the file exists already, a key is none or has a wrong value, or a name holds what YAML cannot.
    """
    path = path / "study.yaml" if path.is_dir() else path
    if path.exists():
        raise ConfigError(f"{path} exists already", next_command=f"paretoprune search {path}")
    models = [model] if isinstance(model, str) else list(model)
    target = None
    if keys:  # its faults, before a file is there
        spec = load_spec(None, {"model": model, "data": data, **_beside(path, keys)}, check_paths=False)
        target = spec.target
        keys |= {"imgsz": spec.resolved()["imgsz"]} if "imgsz" in keys else {}
    facts = checkpoint_facts(path.parent / models[0])
    asked = {"imgsz": written(facts.imgsz or 640), "accuracy": MAIN_FIGURES.get(facts.task or "", "map50_95")}
    name, shown = keys.get("name") or folder_name(Path(models[0]).stem) or "study", _scalar(models[0])
    run = Path(str(keys.get("project", "runs/prune"))) / str(name)
    if len(models) > 1:
        shown = yaml.safe_dump(models, default_flow_style=True, allow_unicode=True, width=math.inf).strip()
    text = _TEXT.format(model=shown, data=_scalar(data), name=_flow(name), run=run, **asked)
    if target is not None:
        text = _for_target(text, str(keys["target"]), target)
    if keys:
        text = _changed(text, keys)
    write_atomic(path, text)
    return path


def _beside(study: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys with the file of a target as it lies beside the study."""
    target = keys.get("target")
    is_file = isinstance(target, str) and target.endswith(SUFFIXES)
    return {**keys, "target": str(absolute(Path(str(target)), study.resolve().parent))} if is_file else dict(keys)


def _for_target(text: str, asked: str, target: TargetRecord) -> str:
    """Return the study with its target, without what the target's pack sets or forbids: lines of its own would win."""
    after = re.search(r"^data: .*\n", text, re.MULTILINE)
    assert after is not None
    remark = (
        f"  # {' '.join(target.title.split())}: sets what is not said here; paretoprune check shows it"
        if target.title
        else ""
    )
    text = f"{text[: after.end()]}target: {_scalar(asked)}{remark}\n{text[after.end() :]}"
    for section, _, key in (dotted.partition(".") for dotted in (*target.sets, *target.forbidden)):
        if section == "space":
            text = re.sub(rf"^  {key}: .*\n", "", text, flags=re.MULTILINE)
    if "latency.runtime" in target.sets:  # which decides, too, what there is to compare with
        text = text.replace("runtime: onnxruntime, device: cpu, ", "")
        text = re.sub(r"^baselines: .*\n", "", text, flags=re.MULTILINE)
    return text


def _changed(text: str, keys: Mapping[str, Any]) -> str:
    """Return the text of a study with other values of some keys; comments stay, keys that it has not are added."""
    before = yaml_source.parse(text).data
    wanted = yaml_source.merge(without_replaced(before, keys), keys)
    for section, value in wanted.items():
        if section in before and before[section] == value:
            continue
        block = re.search(rf"^{re.escape(section)}:\s*(?:#.*)?\n(?: .*\n)+", text, re.MULTILINE)
        old = before.get(section)
        if block is None or not isinstance(value, Mapping) or not isinstance(old, Mapping) or old.keys() - value.keys():
            text = _with_line(text, block, section, value)
            continue
        lines = block.group()
        for key, inner in value.items():
            if old.get(key) != inner or key not in old:
                lines = _with_value(lines, f"  {key}", inner)
        text = text[: block.start()] + lines + text[block.end() :]
    if yaml_source.parse(text).data != wanted:
        raise ConfigError("these keys cannot be written in a study", where="command line", expected="plain values")
    return text


def _with_line(text: str, block: re.Match[str] | None, key: str, value: Any) -> str:
    """Return the text with `key: value` in one line, in the place of a block of lines if there is one."""
    if block is None:
        return _with_value(text, key, value)
    return f"{text[: block.start()]}{key}: {_flow(value)}\n{text[block.end() :]}"


def _with_value(text: str, key: str, value: Any) -> str:
    """Return the lines with another value of a key, whose remark stays; a key that is not there is added at the end."""
    line = re.search(rf"^{re.escape(key)}:[^#\n]*?( *#.*)?$", text, re.MULTILINE)
    if line is None:
        return f"{text}{key}: {_flow(value)}\n"
    return f"{text[: line.start()]}{key}: {_flow(value)}{line[1] or ''}{text[line.end() :]}"


def _flow(value: Any) -> str:
    """Return a value as YAML of one line."""
    if isinstance(value, str):
        return _scalar(value)
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _scalar(text: str) -> str:
    """Return a text as YAML of one line, in quotes where it needs them. Raises ConfigError if YAML cannot hold it."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=math.inf).removesuffix("\n").removesuffix("\n...")
    quoted = yaml.safe_dump(text, default_style='"', width=math.inf).strip()
    for scalar in (plain, quoted):
        with suppress(ConfigError):
            if yaml_source.parse(f"key: {scalar}  # a remark\n").data == {"key": text}:
                return scalar
    raise ConfigError(
        f"{text!r} cannot be written in a study", where="command line", expected="a name without control characters"
    )
