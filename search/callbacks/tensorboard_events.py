"""TensorBoard: scalars over the trials, and each trial as a row of its hparams page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.callbacks.callback import Callback
from search.callbacks.records import metrics, parameters
from search.trial import Trial, TrialState

if TYPE_CHECKING:
    from search.study import Study

FOLDER = "tensorboard"


class TensorBoardEvents(Callback):
    """Writes to tensorboard/ of the run, for `tensorboard --logdir runs/prune`.

    The step of a scalar is the number of the trial: `trial/map50_95` and the like, `front/size`, `front/hypervolume`.
    Complete trials are rows of hparams, each in a folder trial-0017 of its own; the base is `base/...` at step 0.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._writer: Any = None

    def on_search_start(self, study: Study) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder))
        base = study.base()
        for name, figure in ({} if base is None else base.figures).items():
            self._writer.add_scalar(f"base/{name}", figure.value, 0)

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        found = metrics(trial)
        for name, value in found.items():
            self._writer.add_scalar(f"trial/{name}", value, trial.number)
        if trial.state == TrialState.COMPLETE:
            rows = {f"trial/{name}": value for name, value in found.items()}
            self._writer.add_hparams(
                parameters(trial.candidate), rows, run_name=f"trial-{trial.number:04d}", global_step=trial.number
            )
        volumes = study.results().hypervolume
        if volumes:
            self._writer.add_scalar("front/hypervolume", volumes[-1]["value"], trial.number)
        self._writer.add_scalar("front/size", len(study.front()), trial.number)
        self._writer.flush()

    def on_search_end(self, study: Study, error: BaseException | None) -> None:
        self._writer.close()
