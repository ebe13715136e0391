"""Write the study.yaml of `paretoprune init`."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import yaml

from objectives.objective import MAIN_FIGURES
from search.config import yaml_source
from search.config.inputs.checkpoint_facts import checkpoint_facts
from search.config.spec import folder_name
from search.errors import ConfigError
from search.run_folder.atomic import write_atomic

_TEXT = """\
# A study for paretoprune. Every key can be changed on the command line: paretoprune search study.yaml search.trials=50
model: {model}  # an Ultralytics checkpoint; paths are relative to this file
data: {data}  # the data set that it was trained on
imgsz: {imgsz}              # what the model was trained at, where its checkpoint says so
device: auto            # where to train and validate: auto, cpu, 0, ...
name: {name}  # the run goes to runs/prune/{name}

search:
  engine: optuna        # ray: trials on a cluster, see docs/cluster.md
  sampler: auto         # auto, tpe, nsga2, random, qmc, gp; cmaes where one objective is searched
  trials: 150
  hours: 9              # whichever comes first; null for no limit
  until: null           # "07:00": be done, with everything, when the clock shows that; null for no limit
  patience: null        # 40: end when the front has not grown for so many trials; null for no limit
  confirm: 1            # 3: train the picks twice more at the end, with other seeds
  workers: 1            # trials at once
  seed: 0

space:
  ratio: [0.0, 0.8]     # share of channels to remove, per stage of the network
  round_to: 8           # widths are multiples of this
  groups: auto          # auto: one ratio per stage; each: one per group; or patterns: ["model.4.*"]
  ignore: []            # patterns of layers to leave alone
  depth: true           # whole residual blocks may be removed too
  levels: true          # so may detection levels (P3, P4, P5) that get less than 1 % of the objects; or name them: [P5]

objectives: [{accuracy}, latency_ms, params_m]
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
"""


def write_starter(path: Path, model: str = "best.pt", data: str = "data.yaml") -> Path:
    """Write a commented study.yaml and return its path.

    Raises:
        ConfigError: the file exists already, or a name holds what YAML cannot.
    """
    path = path / "study.yaml" if path.is_dir() else path
    if path.exists():
        raise ConfigError(f"{path} exists already", next_command=f"paretoprune search {path}")
    facts = checkpoint_facts(path.parent / model)
    asked = {"imgsz": facts.imgsz or 640, "accuracy": MAIN_FIGURES.get(facts.task or "", "map50_95")}
    name = folder_name(Path(model).stem) or "study"
    write_atomic(path, _TEXT.format(model=_scalar(model), data=_scalar(data), name=_scalar(name), **asked))
    return path


def _scalar(text: str) -> str:
    """Return a text as YAML of one line, in quotes where it needs them. Raises ConfigError if YAML cannot hold it."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=math.inf).removesuffix("\n").removesuffix("\n...")
    quoted = yaml.safe_dump(text, default_style='"', width=math.inf).strip()
    for written in (plain, quoted):
        with suppress(ConfigError):
            if yaml_source.parse(f"key: {written}  # a remark\n").data == {"key": text}:
                return written
    raise ConfigError(
        f"{text!r} cannot be written in a study", where="command line", expected="a name without control characters"
    )
