"""study.yaml: every fault at once, with its line; precedence; round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from objectives.runtimes.names import command_words
from search.config import yaml_source
from search.config.inputs.ultralytics_config import fault_of, training_keys
from search.config.sections import RecoverSpec
from search.config.spec import load_spec, with_defaults
from search.errors import ConfigError

HEAD = "model: best.pt\ndata: data.yaml\n"


def _faults(folder: Path, text: str, **overrides: object) -> str:
    path = folder / "study.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(ConfigError) as caught:
        load_spec(path, overrides)
    return str(caught.value)


def test_the_study_of_the_design_is_accepted(workplace: Path) -> None:
    path = workplace / "study.yaml"
    path.write_text(
        """\
model: best.pt
data: data.yaml
imgsz: 640
device: 0
name: drone-5ms
search:   {engine: optuna, sampler: auto, trials: 150, hours: 9, workers: 1, seed: 0}
space:    {ratio: [0.0, 0.8], round_to: 8, groups: auto, ignore: [], depth: true, imgsz: [640], precision: [fp32]}
objectives: [map50_95, latency_ms, params_m]
constraints: {latency_ms: "<=8"}
budgets:  {edge: {latency_ms: 5}}
recover:  {epochs: 3, fraction: 0.2, distill: true, lr0: 1e-4}
latency:  {runtime: onnxruntime, device: cpu, threads: 1, batch: 1}
keep:     {weights: front, max_gb: 20}
"""
    )
    spec = load_spec(path)
    assert (spec.device, spec.search.hours, spec.run_name) == ("0", 9.0, "drone-5ms")
    assert spec.recover.train == {"lr0": 1e-4}
    assert [str(bound) for bound in spec.bounds] == ["latency_ms<=8"]
    assert [str(bound) for bound in spec.budget("edge", {})] == ["latency_ms<=5"]
    assert spec.space.depth and spec.recover.slimming == 0.0


def test_all_faults_are_reported_at_once_with_their_lines(workplace: Path) -> None:
    text = _faults(
        workplace,
        "search: {trails: 5}\nspace:\n  ratio: [0.0, 1.0]\n  groups: some\nobjectives: [map50_95, latency]\n"
        "constraints: {latency_ms: fast}\nkeep: {weights: always}\nimgzs: 320\n",
    )
    assert "8 faults" in text or "7 faults" in text
    for row in (
        "study.yaml line 3: search.trails: unknown key; did you mean trials?",
        "study.yaml line 5: space.ratio: ratios are shares of channels to remove, 0 to below 1",
        "study.yaml line 6: space.groups: expected auto, each, or a list",
        "study.yaml line 7: objectives: Unknown objective 'latency'",
        "study.yaml line 8: constraints: latency_ms: 'fast' is not a limit",
        "study.yaml line 9: keep.weights:",
        "study.yaml line 10: imgzs: unknown key; did you mean imgsz?",
    ):
        assert row in text


@pytest.mark.parametrize(
    ("key", "said", "meant"),
    [
        ("imgsz", "640", 640),
        ("imgsz", "[384, 640]", (384, 640)),
        ("imgsz", "384x640", (384, 640)),
        ("imgsz", "384,640", (384, 640)),
        ("imgsz", "[640, 640]", 640),
        ("space.imgsz", "[384, 640]", (384, 640)),
        ("space.imgsz", "384", (384,)),
        ("space.imgsz", "[[384, 640], [320, 512], 320]", ((384, 640), (320, 512), 320)),
        ("space.imgsz", "384x640,320x512", ((384, 640), (320, 512))),
        ("space.imgsz", "[[384, 640]]", ((384, 640),)),
    ],
)
def test_two_numbers_are_one_size_of_the_study_and_two_of_the_space(
    workplace: Path, key: str, said: str, meant: object
) -> None:
    """Height first; the same on a command line and in a file, and after a round through args.yaml."""
    spec = load_spec(workplace / "study.yaml", yaml_source.parse_overrides([f"{key}={said}"]))
    found = spec.imgsz if key == "imgsz" else spec.space.imgsz
    assert found == meant and spec.sizes == (meant if key == "space.imgsz" else (meant,))
    again = load_spec(None, spec.resolved(), check_paths=False)
    assert (again.imgsz, again.space.imgsz) == (spec.imgsz, spec.space.imgsz)
    assert load_spec(workplace / "study.yaml", {key: meant}) == spec, "as Python says it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trials: 5\n", "did you mean search.trials?"),
        ("space: {ratio: [0.5, 0.2]}\n", "lower bound must be below"),
        ("space: {ratio: [-0.1, 0.2]}\n", "0 to below 1"),
        ("space: {precision: [int8, int8]}\n", "expected different precisions, at least one"),
        (
            "space: {precision: [fp32, int8]}\nlatency: {runtime: torch}\n",
            "latency: runtime torch on cpu cannot run int8",
        ),
        ("latency: {runtime: ncnn, device: 0}\n", "ncnn is timed on the CPU, found device: 0"),
        ("space: {precision: [int8]}\nlatency: {runtime: ncnn}\n", "runtime ncnn on cpu cannot run int8"),
        ("imgsz: 100\n", "not a multiple of 32"),
        ("imgsz: [384, 650]\n", "384x650 is not a multiple of 32"),
        ("imgsz: [640, 320, 160]\n", "expected one size, 640 or [height, width], found [640, 320, 160]"),
        ("imgsz: large\n", "several to search are space.imgsz: [640, 512], or [[384, 640], [320, 512]]"),
        ("space: {imgsz: [[384, 640], 384x640]}\n", "space.imgsz: expected different sizes, at least one"),
        ("space: {imgsz: []}\n", "expected different sizes, at least one"),
        ("space: {imgsz: [640, wide]}\n", "space.imgsz[1]: expected one size"),
        ("budgets: {edge: {latncy_ms: 5}}\n", "Did you mean latency_ms?"),
        ("budgets: {edge: {}}\n", "limits nothing"),
        ("budgets: {edge: {latency_ms: '>=5'}}\n", "line 3: budgets: edge: latency_ms: '>=5': of latency_ms less"),
        ("budgets: {edge: {latency_ms: 10, fps: 30}}\n", "expected one of them"),
        ("constraints: {latency_ms: '>=8'}\n", "less is better"),
        ("name: a/b\n", "a name is a folder"),
        ("recover: {epoch: 3}\n", "did you mean epochs?"),
        ("recover: {lr: 0.1}\n", "nor of YOLO.train; did you mean lr"),
        ("recover: {data: other.yaml}\n", "data is set by the search"),
        ("recover: {slimming: -1}\n", "greater than or equal to 0"),
        ("search: {trials: 0}\n", "greater than or equal to 1, found 0"),
        ("search: [1]\n", "line 3: search:"),
    ],
)
def test_each_fault_says_what_was_expected(workplace: Path, text: str, expected: str) -> None:
    assert expected in _faults(workplace, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("search: {trials: 1}\nsearch: {trials: 2}\n", "line 4: search"),
        ("space: {ratio: [0, 0.5], ratio: [0, 0.6]}\n", "given twice"),
        ("recover: &a {lr0: 1}\nlatency: *a\n", "anchors"),
        ("search: {trials: 1\n", "is not YAML"),
        ("constraints: {map50_95: >=0.4}\n", "quote values"),
    ],
)
def test_yaml_that_readers_misread_is_refused(workplace: Path, text: str, expected: str) -> None:
    assert expected in _faults(workplace, text)


def test_size_limit_and_missing_file(workplace: Path) -> None:
    path = workplace / "study.yaml"
    path.write_text("#" * (300 * 1024))
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        load_spec(path)
    with pytest.raises(ConfigError, match="paretoprune init"):
        load_spec(workplace / "other.yaml")


def test_python_objects_are_not_built(workplace: Path) -> None:
    assert "tags are not supported" in _faults(workplace, "name: !!python/object/apply:os.system ['true']\n")


def test_missing_model_and_data_are_both_reported(workplace: Path) -> None:
    (workplace / "study.yaml").write_text("model: nowhere.pt\ndata: nowhere.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load_spec(workplace / "study.yaml")
    assert "line 1: model: no such file" in str(caught.value)
    assert "line 2: data: no such file" in str(caught.value)


def test_the_command_line_goes_before_the_file(workplace: Path) -> None:
    path = workplace / "study.yaml"
    path.write_text(HEAD + "search: {trials: 5, seed: 3}\n")
    spec = load_spec(path, {"search.trials": 7, "recover.lr0": 0.01})
    assert (spec.search.trials, spec.search.seed, spec.search.workers) == (7, 3, 1)
    assert spec.recover.train == {"lr0": 0.01}


def test_frames_per_second_count_the_images_of_a_batch(workplace: Path) -> None:
    path = workplace / "study.yaml"
    path.write_text(HEAD + "budgets: {live: {fps: 40}}\nlatency: {batch: 8}\n")
    assert load_spec(path).budgets == {"live": {"latency_ms": 200.0}}
    assert load_spec(path, {"latency.batch": 1}).budgets == {"live": {"latency_ms": 25.0}}
    assert load_spec(path, {"budgets.live.latency_ms": 7}).budgets == {"live": {"latency_ms": 7.0}}
    assert load_spec(path, {"budgets.live.fps": 80}).budgets == {"live": {"latency_ms": 100.0}}
    (workplace / "args.yaml").write_text(yaml.safe_dump({**load_spec(path).resolved(), "fingerprint": {}}))
    assert load_spec(workplace / "args.yaml", {"budgets.live.fps": 80}).budgets == {"live": {"latency_ms": 100.0}}
    path.write_text(HEAD + "budgets: {live: {fps: 40}}\nlatency: {batch: many}\n")
    with pytest.raises(ConfigError, match=r"line 4: latency\.batch"):
        load_spec(path)


def test_a_fault_of_the_command_line_says_so(workplace: Path) -> None:
    text = _faults(workplace, "", **{"search.trails": 3})
    assert "command line: search.trails: unknown key; did you mean trials?" in text


def test_no_file_is_needed_when_model_and_data_are_given(workplace: Path) -> None:
    spec = load_spec(None, {"model": "best.pt", "data": "data.yaml"})
    assert spec.run_name == "best"
    assert Path(spec.model).is_absolute()


def test_paths_are_relative_to_where_they_are_written(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = workplace / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.pt").write_bytes(b"other")
    monkeypatch.chdir(elsewhere)
    assert load_spec(workplace / "study.yaml").model == str(workplace / "best.pt")
    spec = load_spec(workplace / "study.yaml", {"model": "other.pt"})
    assert spec.model == str(elsewhere / "other.pt")


def test_the_resolved_study_reads_back_equal(workplace: Path) -> None:
    (workplace / "study.yaml").write_text(
        HEAD + "constraints: {latency_ms: 8}\nrecover: {lr0: 1e-4, optimizer: SGD}\n"
        "space: {imgsz: [320, 640], groups: ['model.4.*']}\n"
    )
    spec = load_spec(workplace / "study.yaml")
    (workplace / "args.yaml").write_text(yaml.safe_dump(spec.resolved()))
    assert load_spec(workplace / "args.yaml").resolved() == spec.resolved()


def test_keys_that_came_later_get_their_default(workplace: Path) -> None:
    old = load_spec(workplace / "study.yaml").resolved()
    del old["recover"]["slimming"], old["space"]["depth"], old["space"]["levels"]
    assert with_defaults(old) == load_spec(workplace / "study.yaml").resolved()
    assert with_defaults({"model": 3}) == {"model": 3}


def test_a_run_from_before_spend_keeps_equal_epochs(workplace: Path) -> None:
    """Its trials all had the same; with others from here on, old and new ones would not be comparable."""
    study = load_spec(workplace / "study.yaml")
    old = study.resolved()
    assert old["recover"].pop("spend") == "need"
    assert with_defaults(old)["recover"]["spend"] == "equal"
    assert with_defaults(study.resolved()) == study.resolved()
    args = workplace / "args.yaml"
    args.write_text(yaml.safe_dump({**old, "fingerprint": {"model": "a" * 64}}))
    assert load_spec(args, check_paths=False).recover.spend == "equal"
    assert load_spec(args, {"recover.spend": "need"}, check_paths=False).recover.spend == "need"
    args.write_text(yaml.safe_dump({**study.resolved(), "fingerprint": {"model": "a" * 64}}))
    assert load_spec(args, check_paths=False).recover.spend == "need"


def test_a_program_as_runtime_is_found_beside_the_study(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = workplace / "my time.sh"
    program.write_text("#!/bin/sh\necho 5\n")
    (workplace / "study.yaml").write_text(HEAD + "latency: {runtime: \"command:'./my time.sh' -b {model}\"}\n")
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    spec = load_spec(workplace / "study.yaml")
    assert command_words(spec.latency.runtime) == [str(program), "-b", "{model}"]
    assert (spec.latency.seconds, spec.latency.timeout_s) == (60.0, 300.0)
    again = load_spec(None, {**spec.resolved(), "latency.seconds": 7})
    assert again.latency.runtime == spec.latency.runtime and again.latency.seconds == 7
    on_path = load_spec(workplace / "study.yaml", {"latency.runtime": "command:ssh board ./time"})
    assert on_path.latency.runtime == "command:ssh board ./time"


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("onnx", "Did you mean onnxruntime?"),
        ("comand:x", "Did you mean command:?"),
        ("'command:'", "names no program"),
        ("command:./time.sh '{model}x", "Quote as in a shell"),
    ],
)
def test_a_runtime_that_does_not_exist(workplace: Path, runtime: str, said: str) -> None:
    assert said in _faults(workplace, "latency:\n  runtime: onnxruntime\n", **{"latency.runtime": runtime.strip("'")})


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("plots", "writes no files"),
        ("quantize", "paretoprune export"),
        ("half", "quantize=16"),
        ("iou", "fixed settings"),
        ("opset", "prediction or export"),
        ("pretrained", "the pruned network itself"),
        ("cos_lr", "a rate of its own for every step"),
        ("time", "give epochs"),
    ],
)
def test_a_key_of_yolo_train_that_cannot_be_taken_is_refused_with_its_reason(key: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=f"{key} cannot be a key of recover: .*{reason}"):
        RecoverSpec.model_validate({key: 1})


def test_every_key_of_yolo_train_is_taken_refused_or_ours() -> None:
    """A key that Ultralytics adds is decided on here, before it loses somebody's weights after the last epoch."""
    taken = {
        *("patience", "cache", "workers", "optimizer", "deterministic", "single_cls", "close_mosaic"),
        *("amp", "freeze", "multi_scale", "channels_last", "overlap_mask", "mask_ratio", "dropout"),
        *("lr0", "momentum", "weight_decay", "dis"),
        *("box", "cls", "cls_pw", "dfl", "pose", "kobj", "rle", "angle", "dlog", "dgrad", "dlam", "nbs"),
        *("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr"),
        *("bgr", "mosaic", "mixup", "cutmix", "copy_paste", "copy_paste_mode", "auto_augment", "erasing"),
    }
    own = tuple(RecoverSpec.model_fields)
    accepted = {key for key in training_keys() if fault_of(key, own) is None}
    assert accepted - {*own} <= taken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search: {trials: true}\n", "search.trials: expected a number, found true"),
        ("search: {hours: .inf}\n", "search.hours: input should be a finite number"),
        ("search: {hours: 1e308}\n", "search.hours: input should be less than or equal to"),
        ("search: {hours: .nan}\n", "finite number"),
        ("space: {ratio: [false, 0.5]}\n", "expected a number, found false"),
        ("imgsz: true\n", "expected a number, found true"),
        ("imgsz: 9223372036854775776\n", "of at most 16384"),
        ("device: true\n", "valid string"),
        ("latency: {seconds: .inf}\n", "finite number"),
        ("budgets: {edge: {latency_ms: true}}\n", "True is not a limit"),
        ("recover: {lr0: .nan}\n", "lr0 is nan; expected a finite number"),
        ("project: " + "x" * 300 + "\n", "has at most 255 bytes"),
        ("figures: {mae: {direction: min, unti: x}}\n", "did you mean unit?"),
        ("storage: ['postgresql://me:hunter2@host/d']\n", "storage: input should be a valid string"),
    ],
)
def test_numbers_are_numbers_that_a_search_can_use(workplace: Path, text: str, said: str) -> None:
    message = _faults(workplace, text)
    assert said in message and "hunter2" not in message


def test_a_device_is_no_checkpoint(workplace: Path) -> None:
    (workplace / "study.yaml").write_text("model: /dev/zero\ndata: data.yaml\n")
    with pytest.raises(ConfigError, match="not a regular file: /dev/zero"):
        load_spec(workplace / "study.yaml")


def test_a_message_of_many_faults_ends(workplace: Path) -> None:
    text = _faults(workplace, "".join(f"key{number}: 1\n" for number in range(500)))
    assert "the study has 500 faults" in text and "and 460 more" in text and len(text.splitlines()) < 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("space: {round_to: auto}", 8),
        ("space: {round_to: auto, precision: [fp32, int8]}", 8),
        ("space: {round_to: auto, precision: [int8]}\nlatency: {runtime: tensorrt, device: '0'}", 32),
        ("space: {round_to: auto, precision: [fp16]}\nlatency: {runtime: tensorrt, device: '0'}", 8),
        ("space: {round_to: 16, precision: [int8]}", 16),
    ],
)
def test_rounding_follows_from_runtime_and_precision(workplace: Path, text: str, expected: int) -> None:
    path = workplace / "study.yaml"
    path.write_text(f"{HEAD}{text}\n")
    spec = load_spec(path)
    assert spec.space.round_to == expected
    assert spec.resolved()["space"]["round_to"] == expected, "recorded as the number that it stood for"
    assert load_spec(path, {"space.round_to": 4}).space.round_to == 4
