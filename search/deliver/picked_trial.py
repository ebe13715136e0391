"""A picked trial, and its delivery."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.choice import Bound
from objectives.image_size import Size
from search.config.comparability import base_key
from search.config.inputs.user_code import UserReference
from search.errors import ConfigError, RunCorrupt
from search.results.exported_points import record_points
from search.results.results import Results
from search.results.snapshot import refresh, snapshot_with
from search.results.snapshot_reader import trial as trial_row
from search.run_folder.artefact_files import inside
from search.run_folder.weights import FILE, check_weights, origin
from search.trial import Measurement, Trial, TrialState

if TYPE_CHECKING:
    from search.config.spec import StudySpec
    from search.export.report import ExportReport


@dataclass(frozen=True)
class PickedTrial:
    """One trial of a study.

    Attributes:
        results: those that it was chosen from.
        trial: None for the base.
        sentence: the reason for the choice.
        bounds: the limits that it was chosen within.
        budget: the study's name for these limits, if any.
        unpruned: place in the study of the base, where it is one and no trial.
    """

    results: Results
    trial: Trial | None
    sentence: str
    bounds: tuple[Bound, ...] = ()
    budget: str | None = None
    unpruned: int = 0

    @property
    def name(self) -> str:
        """`trial 17` or `base`; a base beside the first by its own name."""
        return self._base_name if self.trial is None else f"trial {self.trial.id}"

    @property
    def _base_name(self) -> str:
        return self.results.spec.base_names[self.unpruned] if self.unpruned else "base"

    @property
    def spec(self) -> StudySpec:
        """The study of its own base alone: `model` is what it was pruned from."""
        return self.results.spec.of_base(self.place)

    @property
    def place(self) -> int:
        """Place of its base in the study."""
        return self.unpruned if self.trial is None else self.trial.candidate.base

    @property
    def measurement(self) -> Measurement | None:
        """Its figures; None where it has none."""
        if self.trial is not None:
            return self.trial.measurement
        return self.results.bases[self.unpruned] if self.unpruned < len(self.results.bases) else None

    @property
    def folder(self) -> Path:
        """Delivery folder: picks/<budget>, or picks/trial-0017; picks/<budget>-on-<device> for another device."""
        if self.budget and self.results.target is not None:
            return self.results.record.path / "picks" / f"{self.budget}-on-{self.results.target.name}"
        name = self.budget or (self._base_name if self.trial is None else f"trial-{self.trial.number:04d}")
        return self.results.record.path / "picks" / name

    @property
    def chosen(self) -> Trial:
        """The trial. Raises ConfigError for the base."""
        if self.trial is None:
            raise ConfigError("the base is no trial", expected="a trial of the run, such as RUN:17")
        return self.trial

    @property
    def ref(self) -> str:
        """RUN:17, RUN:17-int8 or RUN:base: what the command line takes."""
        name = self._base_name if self.trial is None else str(self.trial.id)
        return f"{self.results.record.path}:{name}"

    @property
    def imgsz(self) -> Size:
        """Input size in pixels."""
        return self.results.spec.imgsz if self.trial is None else self.trial.candidate.imgsz

    def weights(self) -> Path:
        """Return the checkpoint of the trial as it was measured; for the base its own file.

        Raises:
            ConfigError: the trial has no weights on disk; names the command that makes them.
            RunCorrupt: they are not what was measured, or a link out of the run.
        """
        if self.trial is None:
            return Path(self.spec.model)
        path = self.results.record.trial_dir(origin(self.trial)) / FILE
        if path.is_file():
            if not inside(self.results.record.path, path):
                raise RunCorrupt("a link leads out of the run", where=str(path), expected="the file of the trial")
            check_weights(self.results.record, origin(self.trial))
            return path
        if self.trial.state != TrialState.COMPLETE:
            raise ConfigError(f"{self.name} is {self.trial.state.value}", expected="a complete trial")
        raise ConfigError(
            f"the weights of {self.name} were not kept",
            where=str(path),
            expected="keep.weights: all, or a trial on the front",
            next_command=f"paretoprune finetune {self.ref}",
        )

    def model(self) -> Path:
        """Best checkpoint available: `tuned` if `finetune` made it of this trial, else `weights`."""
        return self.tuned if self.is_tuned() else self.weights()

    @property
    def tuned(self) -> Path:
        """Checkpoint that `finetune` writes."""
        return self.folder / "finetuned.pt"

    def is_tuned(self) -> bool:
        """Tell whether `tuned` is of this trial: a budget's folder may hold that of an earlier pick."""
        if self.trial is None or self.trial.measurement is None or not self.tuned.is_file():
            return False
        from pruning.checkpoints.checkpoint import read_notes
        from search.evaluate.user_task import PLAN

        return bool(read_notes(self.tuned).get(PLAN) == self.trial.measurement.plan)

    def write(self) -> Path:
        """Write picks/<budget>/{pick.json, model.pt} and return the folder."""
        from search.deliver.pick_folder import write_pick

        row = trial_row(snapshot_with(self.results, self.chosen), str(self.chosen.id))
        limits = {bound.name: bound.limit for bound in self.bounds}
        return write_pick(
            self.results.record.path,
            self.folder.name,
            row,
            self.weights(),
            artefact=self.artefact(),
            bounds=limits,
            sentence=self.sentence,
        )

    def artefact(self) -> Path | None:
        """Return the measured file in reduced precision, if on disk: beside the weights, or where it was exported."""
        if self.trial is None or self.trial.candidate.precision == "fp32":
            return None
        from search.evaluate.reduced_precision import target_of

        target = target_of(self.results.spec, self.trial.candidate.precision)
        if not self.trial.exported:
            place = self.results.record.trial_dir(origin(self.trial))
        else:
            place = self.results.record.path / "picks" / f"trial-{self.trial.number:04d}"
        path = place / target.file_name(Path(FILE).stem)
        return path if path.exists() and inside(self.results.record.path, path) else None

    def export(self, format: str = "onnx", **options: Any) -> ExportReport:
        """Export to `folder`, verify each artefact, write model_card.md; `format` may name several: `onnx,openvino`.

        Args:
            options: quantize (the precision of the trial, or of the study's base, by default), max_drop, device of
                `search.deliver.verified_export.export_model`; batch, dynamic, nms, conf, iou of
                `search.export.graph_options.GraphOptions`.

        Raises:
            DeliveryError: what failed is named; what passed is delivered, and on the card.
        """
        from search.export.formats import asked_formats

        formats, most = asked_formats(format), options.get("max_drop")
        if most is not None and not (_is_number(most) and 0 <= most < math.inf):
            raise ConfigError(f"{most!r} is no loss that is allowed", where="max_drop", expected="0 or more, as 0.02")
        if UserReference.parse(self.results.spec.data) is not None:
            report = self._export_own(formats, options)
            self._delivered(report, formats, options)
            return report
        return self._export_verified(formats, options)

    def _export_verified(self, formats: tuple[str, ...], options: dict[str, Any]) -> ExportReport:
        from search.export.errors import DeliveryError
        from search.export.formats import checked_targets
        from search.export.graph_options import KEYS, GraphOptions

        spec = self.results.spec
        graph = GraphOptions.of(options)
        options.setdefault("quantize", self._bits())
        options["device"] = str(options.get("device", "cpu"))
        # before suggesting to make weights for it, and before PyTorch is loaded
        checked_targets(formats, options["quantize"], device=options["device"], graph=graph)
        from search.deliver.verified_export import export_model
        from search.evaluate.data_record import check_data
        from search.evaluate.workload import load_model

        check_data(
            spec, load_model(self.model()), self.results.record.path
        )  # its accuracy is compared with the trial's
        own = {key: value for key, value in options.items() if key not in KEYS}
        settings = {"imgsz": self.imgsz, "latency": spec.latency, "base": Path(spec.model), **own}
        settings |= {"ready": self._ready(), "graph": graph}
        try:
            report = export_model(self.model(), self.folder, formats, data=Path(spec.data), **settings)
        except DeliveryError as error:
            if error.report is not None:
                self._delivered(error.report, formats, options)
            raise
        self._delivered(report, formats, options)
        return report

    def _export_own(self, formats: tuple[str, ...], options: Mapping[str, Any]) -> ExportReport:
        from search.deliver.user_export import export_plain
        from search.evaluate.data_record import check_data
        from search.export.graph_options import KEYS

        if options.get("quantize") not in (None, 32):
            raise ConfigError("a model of your own is exported in float32", where="quantize", expected="32")
        if named := [key for key in KEYS if options.get(key) is not None]:
            what = f"{named[0]} is for Ultralytics models"
            raise ConfigError(what, where=f"{named[0]}=", expected="its file takes any number of images as it is")
        spec = self.results.spec
        check_data(spec, None, self.results.record.path)  # its score is compared with the trial's
        most = options.get("max_drop")
        return export_plain(self.model(), self.folder, formats, data=spec.data, imgsz=self.imgsz, max_drop=most)

    def _ready(self) -> dict[str, Path]:
        """Return the measured file of a trial in reduced precision, unless its weights were trained further."""
        path = self.artefact()
        if path is None or self.trial is None or self.model() != self.weights():
            return {}
        from search.evaluate.reduced_precision import target_of

        return {target_of(self.results.spec, self.trial.candidate.precision).label: path}

    def _bits(self) -> int | None:
        """Return the bits of its own precision; None for float32, in whose place a format without it has another."""
        from search.export.formats import BITS

        precision = self.results.spec.precision if self.trial is None else self.trial.candidate.precision
        return None if precision == "fp32" else BITS[precision]

    def _delivered(self, report: ExportReport, formats: tuple[str, ...], options: Mapping[str, Any]) -> None:
        if self.trial is not None:
            words = [f"format={','.join(formats)}", *(f"{k}={_word(v)}" for k, v in options.items() if v is not None)]
            if not self.trial.exported and self.model() == self.weights():
                here = self.results.here  # a point is timed here, whatever device the trial was chosen for
                record_points(here.record, here.spec, here.base, self.trial, report)
                refresh(here.record, here.spec)
            self._write_card(report, f"paretoprune export {self.ref} {' '.join(words)}")

    def _write_card(self, report: ExportReport, command: str) -> None:
        """Write model_card.md beside the artefacts: origin, commands and measured figures."""
        from search.deliver.model_card import write_model_card
        from search.evaluate.data_record import data_digest

        _, prints = self.results.record.read_args()
        data = data_digest(self.results.record.path) or prints.get("data", "not recorded")
        lineage = {"base model": prints[base_key(self.place)], "data": data, "plan": self.chosen.measured.digest}
        write_model_card(
            self.folder / "model_card.md",
            snapshot_with(self.results, self.chosen),
            str(self.chosen.id),
            lineage={**lineage, "exported checkpoint": report.model_digest},
            commands=[f"paretoprune resume {self.results.record.path}", command],
            export=report,
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
