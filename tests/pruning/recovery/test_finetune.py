"""Fine-tuning keeps the pruned module, for every task, in a short run, in a full one, resumed and distilled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer

from objectives.ultralytics_door import quiet as silent
from pruning import GrewBackError, RecoveryError
from pruning.checkpoints.checkpoint import count_parameters, load_model, save_model
from pruning.recovery import finetune
from pruning.recovery.bn_calibration import calibration_batches, measure_statistics
from pruning.recovery.finetune import (
    TRAINERS,
    Recovery,
    check_parameters,
    norms_of,
    quiet,
    recover,
    settings_for,
    trainer_for,
)
from tests import shelf
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data
from ultralytics_versions.parts import DistillationModel, can_distill, known_settings, traced_onnx

SUFFIX = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}


def base_for(task: str, folder: Path) -> Path:
    """A small stock model with the classes of the tiny data, saved."""
    from ultralytics.nn import tasks as stock
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    cls = {
        "detect": stock.DetectionModel,
        "segment": stock.SegmentationModel,
        "pose": stock.PoseModel,
        "obb": stock.OBBModel,
        "classify": stock.ClassificationModel,
    }[task]
    document = YAML.load(check_yaml(f"yolov8{SUFFIX[task]}.yaml"))
    document["scale"] = "n"
    options = {"data_kpt_shape": (4, 3)} if task == "pose" else {}
    model = cls(document, nc=2, verbose=False, **options)
    model.task, model.names, model.args = task, {0: "dark", 1: "bright"}, {"imgsz": 64}
    path = folder / f"base-{task}.pt"
    save_model(model, path)
    return path


def pruned(base: Path, ratio: float = 0.5, removed: tuple[str, ...] = ()) -> nn.Module:
    model = load_model(base)
    return shelf.trace(model, torch.zeros(1, 3, 64, 64)).plan(ratio, round_to=8, removed=removed).apply(model)


@pytest.mark.parametrize("task", TRAINERS)
def test_a_short_run_keeps_the_architecture_and_learns(task: str, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", task)
    base, levels = base_for(task, tmp_path), {"segment": ("P5",), "pose": ("P3",), "obb": ("P4", "P5")}.get(task, ())
    small = pruned(base, removed=levels)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    seen: list[float] = []
    recovery = Recovery(imgsz=64, batch=4, distill=task != "classify")
    done = recover(small, data, recovery, base=base, work_dir=tmp_path / "work", on_progress=seen.append)
    after = done.state_dict()
    assert {name: value.shape for name, value in after.items()} == {n: v.shape for n, v in before.items()}
    assert any(not torch.equal(before[name], after[name]) for name in before if name.endswith("conv.weight"))
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert not any(module._forward_hooks for module in done.modules()), "features would go into the checkpoint"
    assert [path.name for path in (tmp_path / "work").rglob("*.pt")] == (
        ["teacher.pt"] if levels and can_distill else []
    )


@pytest.mark.parametrize(("damage", "moved"), [(0.0, False), (0.5, True)])
def test_statistics_follow_the_batches_in_proportion_to_the_damage(damage: float, moved: bool, tmp_path: Path) -> None:
    data, base = make_tiny_data(tmp_path / "data"), base_for("detect", tmp_path)
    model = load_model(base)
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    momenta = {norm.momentum for norm in norms_of(model)}
    asked = Recovery(imgsz=64, batch=4, distill=False)
    done = recover(model, data, asked, damage=damage, work_dir=tmp_path / "work")
    after = done.state_dict()
    assert any(not torch.allclose(before[name], after[name], rtol=1e-4) for name in before) == moved
    assert {norm.momentum for norm in norms_of(done)} == momenta


def train(path: Path, data: Path, folder: Path, **options: object) -> Any:
    """YOLO(path).train on tiny data; the YOLO object."""
    from ultralytics import YOLO

    common = {"data": str(data), "epochs": 1, "imgsz": 64, "batch": 4, "project": str(folder), "plots": False}
    common |= {"workers": 0, "device": "cpu", "verbose": False}
    net: Any = YOLO(path)
    net.train(**{**common, **options})
    return net


def test_plain_training_grows_back(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", images=8)
    small = pruned(base_for("detect", tmp_path))
    path, size = tmp_path / "pruned.pt", count_parameters(small)
    save_model(small, path)
    with quiet():
        stock = train(path, data, tmp_path, name="stock")
    assert count_parameters(stock.model) > 1.5 * size, "the trap is gone: the trainers may no longer be needed"


@pytest.mark.parametrize(
    "task",
    [task if task in ("detect", "classify") else pytest.param(task, marks=pytest.mark.slow) for task in TRAINERS],
)
def test_a_pruned_file_is_trained_by_us_or_not_at_all(task: str, tmp_path: Path) -> None:
    """Everything else works as before: plain prediction, validation, export, and loading it again."""
    from ultralytics import YOLO

    levels = () if task == "classify" else ("P5",)
    data, small = make_tiny_data(tmp_path / "data", task), pruned(base_for(task, tmp_path), removed=levels)
    path, said = tmp_path / "pruned.pt", {"data": str(data), "imgsz": 64, "device": "cpu", "project": str(tmp_path)}
    save_model(small, path, paretoprune_plan="{}")
    with quiet(), pytest.raises(KeyError, match="paretoprune finetune"):
        YOLO(path).train(**said, epochs=1, workers=0)
    yolo = YOLO(path)
    assert yolo.task == task and yolo.predict(torch.rand(1, 3, 64, 64), verbose=False)
    yolo.val(**said, workers=0, plots=False, verbose=False)
    with silent(), traced_onnx():
        assert Path(YOLO(path).export(format="onnx", imgsz=64)).is_file()
    YOLO(path).train(**said, epochs=1, batch=4, workers=0, plots=False, trainer=trainer_for(task), name="ours")
    last: Any = load_model(next(tmp_path.rglob("ours/weights/last.pt")))
    assert count_parameters(last) == count_parameters(small)
    layers = len(last.yaml["head"])
    save_model(last, path, paretoprune_plan="{}")
    again: Any = load_model(path)
    assert len(again.yaml["head"]) == layers


@pytest.mark.parametrize("task", TRAINERS)
def test_a_training_keeps_the_architecture_distilled_cut_resumed_and_evaluated(task: str, tmp_path: Path) -> None:
    """YOLO.train(trainer=...): two epochs with a teacher (but for classify), stopped after one, resumed to the end."""
    from ultralytics import YOLO

    data, base = make_tiny_data(tmp_path / "data", task, images=8), base_for(task, tmp_path)
    small = pruned(base)
    path, shapes = tmp_path / "pruned.pt", {name: value.shape for name, value in small.state_dict().items()}
    save_model(small, path)
    teacher = {"distill_model": str(base)} if task != "classify" and can_distill else {}

    def stop_after_one(trainer: object) -> None:
        raise KeyboardInterrupt

    with quiet():
        cut = YOLO(path)
        cut.add_callback("on_model_save", stop_after_one)
        with pytest.raises(KeyboardInterrupt):
            cut.train(
                trainer=trainer_for(task), data=str(data), epochs=2, imgsz=64, batch=4, workers=0, device="cpu",
                project=str(tmp_path), name="cut", plots=False, **teacher,
            )  # fmt: skip
        last = tmp_path / "cut" / "weights" / "last.pt"
        resumed: Any = YOLO(last)
        resumed.train(trainer=trainer_for(task), resume=True, device="cpu", workers=0)
    assert (resumed.trainer.start_epoch, resumed.trainer.epoch) == (1, 1)
    assert isinstance(resumed.trainer.model, DistillationModel) == bool(teacher)
    for file in (last, last.with_name("best.pt")):
        assert {name: value.shape for name, value in load_model(file).state_dict().items()} == shapes


def test_a_changed_count_is_an_error() -> None:
    with pytest.raises(GrewBackError, match="grew back"):
        check_parameters(nn.Linear(2, 2), 5)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data")
    model = zoo.build("yolov8n.yaml")
    with pytest.raises(RecoveryError, match="80 classes, the data set 2"):
        recover(model, data, Recovery(imgsz=64), work_dir=tmp_path)


def test_an_infinite_loss_is_an_error(tmp_path: Path) -> None:
    from pruning import DivergedError

    data = make_tiny_data(tmp_path / "data")
    small = pruned(base_for("detect", tmp_path))
    with torch.no_grad():
        next(small.parameters()).fill_(float("inf"))
    with pytest.raises(DivergedError, match=r"lower recover\.lr0"):
        recover(small, data, Recovery(imgsz=64, batch=4, distill=False), work_dir=tmp_path)


class _Halving:
    """A trainer that ran out of memory and went on with half the batch, as Ultralytics' does on a GPU."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        self.batch_size, self.device = int(overrides["batch"]), torch.device("cpu")
        self.args, self.trained = SimpleNamespace(amp=False), False

    def get_model(self, weights: nn.Module) -> nn.Module:
        return weights

    def _build_train_pipeline(self) -> None:
        assert not self.trained, "an epoch is paid for already"

    def train(self) -> None:
        self._build_train_pipeline()
        self.batch_size //= 2
        self._build_train_pipeline()
        self.trained = True


def test_a_batch_that_was_halved_in_silence_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruning.recovery.finetune.trainer_of", lambda model: _Halving)
    with pytest.raises(RecoveryError, match=r"halved the batch from 16 to 8.*not comparable"):
        recover(zoo.build("yolov8n.yaml"), "data.yaml", Recovery(batch=16), work_dir=tmp_path)


def test_the_users_keys_win_and_the_bases_augmentations_stay(tmp_path: Path) -> None:
    model = load_model(base_for("detect", tmp_path))
    model.args = {"fliplr": 0.0, "mosaic": 1.0, "degrees": 12.0}
    settings = settings_for(model, "data.yaml", Recovery(train={"lr0": 0.5}), None, tmp_path)
    assert (settings["fliplr"], settings["degrees"], settings["mosaic"], settings["lr0"]) == (0.0, 12.0, 0.0, 0.5)


def test_all_of_the_bases_loss_weights_stay_and_no_augmentation_is_invented(tmp_path: Path) -> None:
    model = load_model(base_for("obb", tmp_path))
    model.args = {"angle": 0.5, "rle": 2.0, "multi_scale": 0.25, "auto_augment": None, "erasing": None}
    settings = settings_for(model, "data.yaml", Recovery(), None, tmp_path)
    own = known_settings({"angle": 0.5, "rle": 2.0, "multi_scale": 0.25})
    assert {key: settings.get(key) for key in ("angle", "rle", "multi_scale") if key in settings} == own
    assert settings["auto_augment"] is None and "erasing" not in settings


def test_dropout_is_that_of_the_user(tmp_path: Path) -> None:
    data, base = make_tiny_data(tmp_path / "data", "classify"), base_for("classify", tmp_path)
    done = recover(
        load_model(base), data, Recovery(imgsz=64, batch=4, train={"dropout": 0.25}), work_dir=tmp_path / "work"
    )
    assert {module.p for module in done.modules() if isinstance(module, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("distill", [False, True])
def test_an_epoch_has_every_image_once_but_those_held_out(
    distill: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind a teacher, whose projectors are fitted on batches of the same loader."""
    data, base = make_tiny_data(tmp_path / "data", images=16), base_for("detect", tmp_path)
    model, asked = pruned(base), Recovery(imgsz=64, batch=4, distill=distill)
    monkeypatch.setattr(finetune, "FITTED_IMAGES", 8)
    seen: list[str] = []
    real = DetectionTrainer.preprocess_batch

    def noted(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        seen.extend(batch["im_file"])
        return real(self, batch)  # type: ignore[no-any-return]

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", noted)
    every = sorted(str(path) for path in (tmp_path / "data").rglob("train/*.*") if path.suffix in (".jpg", ".png"))
    kept = every[:2]
    recover(model, data, asked, base=base, held_out=frozenset(kept), work_dir=tmp_path / "work")
    assert len(every) == 16 and sorted(seen[8 if distill and can_distill else 0 :]) == every[2:]


def test_a_long_run_ends_with_its_best_epoch_where_the_loss_becomes_no_number(tmp_path: Path) -> None:
    data, small = make_tiny_data(tmp_path / "data"), pruned(base_for("detect", tmp_path))
    written: list[nn.Module] = []

    def fitness(network: nn.Module) -> float:
        if len(written) == 2:
            with torch.no_grad():
                next(small.parameters()).fill_(float("inf"))
        return float(len(written))

    asked = Recovery(epochs=9, imgsz=64, batch=4, distill=False)
    done = recover(small, data, asked, work_dir=tmp_path / "work", fitness=fitness, on_best=written.append)
    assert len(written) == 3 and done is written[-1]


def test_a_last_fine_tune_takes_what_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compared with it, so half of the batch is no reason to lose it."""
    best = zoo.build("yolov8n.yaml")

    class Halving(_Halving):
        def train(self) -> None:
            super().train()
            self.best_epoch = (0.5, best)

    monkeypatch.setattr("pruning.recovery.finetune.trainer_of", lambda model: Halving)
    asked = Recovery(batch=16)
    monkeypatch.setattr(_Halving, "_build_train_pipeline", lambda self: None)
    found = recover(best, "data.yaml", asked, work_dir=tmp_path, fitness=lambda network: 0.5)
    assert found is best


def test_statistics_are_those_of_the_images(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", images=16)
    batches = list(calibration_batches(data, 64, count=16, batch=8))
    assert [tuple(batch.shape) for batch in batches] == [(8, 3, 64, 64)] * 2
    model = zoo.traced("yolov8n.yaml").plan(0.3).apply(zoo.build("yolov8n.yaml"))
    measure_statistics(model, batches)
    first = model.get_submodule("model.0")
    with torch.no_grad():
        expected = first.conv(torch.cat(batches)).mean(dim=(0, 2, 3))
    assert torch.allclose(first.bn.running_mean, expected, atol=1e-5)
    assert first.bn.momentum == zoo.build("yolov8n.yaml").get_submodule("model.0").bn.momentum
