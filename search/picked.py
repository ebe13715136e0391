"""A trial that was chosen, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.choice import Bound
from search.errors import ConfigError
from search.own_reference import OwnReference
from search.trial import Trial, TrialState
from search.weights import FILE, origin

if TYPE_CHECKING:
    from search.deliver.export_report import ExportReport
    from search.study import Study


@dataclass(frozen=True)
class PickedTrial:
    """One trial of a study.

    Attributes:
        trial: None for the base.
        sentence: why this one.
        bounds: the limits that it was chosen within.
        budget: the study's name for these limits, if they have one.
    """

    study: Study
    trial: Trial | None
    sentence: str
    bounds: tuple[Bound, ...] = ()
    budget: str | None = None

    @property
    def name(self) -> str:
        """`trial 17` or `base`."""
        return "base" if self.trial is None else f"trial {self.trial.number}"

    @property
    def folder(self) -> Path:
        """picks/<budget>, or picks/trial-0017: where what is delivered lies; picks/<budget>-on-<device> for another
        device, whose pick is another one."""
        if self.budget and self.study.target is not None:
            return self.study.record.path / "picks" / f"{self.budget}-on-{self.study.target.name}"
        name = self.budget or ("base" if self.trial is None else f"trial-{self.trial.number:04d}")
        return self.study.record.path / "picks" / name

    @property
    def imgsz(self) -> int:
        """Input size in pixels."""
        return self.study.spec.imgsz if self.trial is None else self.trial.candidate.imgsz

    def weights(self) -> Path:
        """The checkpoint of the trial as it was measured: the base's own file for the base.

        Raises:
            ConfigError: the trial has no weights on disk; names the command that makes them.
        """
        if self.trial is None:
            return Path(self.study.spec.model)
        path = self.study.record.trial_dir(origin(self.trial)) / FILE
        if path.is_file():
            return path
        if self.trial.state != TrialState.COMPLETE:
            raise ConfigError(f"{self.name} is {self.trial.state.value}", expected="a complete trial")
        raise ConfigError(
            f"the weights of {self.name} were not kept",
            where=str(path),
            expected="keep.weights: all, or a trial on the front",
            next_command=f"paretoprune finetune {self.study.record.path}:{self.trial.number}",
        )

    def model(self) -> Path:
        """The best checkpoint there is: the fine-tuned one of `folder` if `finetune` made it, else `weights`."""
        tuned = self.folder / "finetuned.pt"
        return tuned if tuned.is_file() else self.weights()

    def write(self) -> Path:
        """Write picks/<budget>/{pick.json, model.pt} and return the folder."""
        from search.deliver.pick import write_pick

        assert self.trial is not None
        rows = {row["number"]: row for row in self.study.snapshot()["trials"]}
        limits = {bound.name: bound.limit for bound in self.bounds}
        return write_pick(
            self.study.record.path,
            self.folder.name,
            rows[self.trial.number],
            self.weights(),
            bounds=limits,
            sentence=self.sentence,
        )

    def export(self, format: str = "onnx", **options: Any) -> ExportReport:
        """Export to `folder`, verify each artefact, write model_card.md; `format` may name several: `onnx,openvino`.

        Args:
            options: quantize, max_drop, device of `search.deliver.export.export_model`.
        """
        from search.deliver.export import export_model
        from search.deliver.formats import checked_formats

        spec = self.study.spec
        settings = {"imgsz": self.imgsz, "latency": spec.latency.model_dump(), **options}
        formats = tuple(name.strip() for name in format.split(",") if name.strip())
        if OwnReference.parse(spec.data) is not None:
            report = self._export_own(formats, options)
        else:
            checked_formats(formats, options.get("quantize"))  # before anybody is told to make weights for it
            report = export_model(self.model(), self.folder, formats, data=Path(spec.data), **settings)
        if self.trial is not None:
            self._write_card(report, f"paretoprune export {self.study.record.path}:{self.trial.number} format={format}")
        return report

    def _export_own(self, formats: tuple[str, ...], options: Mapping[str, Any]) -> ExportReport:
        from search.deliver.plain import export_plain

        if options.get("quantize") not in (None, 32):
            raise ConfigError("a model of your own is exported in float32", where="quantize", expected="32")
        spec = self.study.spec
        most = options.get("max_drop")
        return export_plain(self.model(), self.folder, formats, data=spec.data, imgsz=self.imgsz, max_drop=most)

    def _write_card(self, report: ExportReport, command: str) -> None:
        """model_card.md beside the artefacts: what they were made from, how, and what was measured."""
        from search.deliver.model_card import write_model_card

        assert self.trial is not None and self.trial.measurement is not None
        _, prints = self.study.record.read_args()
        lineage = {"base model": prints["model"], "data": prints["data"], "plan": self.trial.measurement.digest}
        write_model_card(
            self.folder / "model_card.md",
            self.study.snapshot(),
            self.trial.number,
            lineage=lineage,
            commands=[f"paretoprune resume {self.study.record.path}", command],
            export=report,
        )
