"""Load a checkpoint that its user trusts, identified by hash, bypassing the restricted loader once.

Unpickling may execute anything, so it happens in a child process, and only the network leaves it: written as a clean
checkpoint of stock classes, which everything else reads through the restricted loader like any other file.

    runs/prune/trusted/<sha256>.pt
"""

from __future__ import annotations

from pathlib import Path

from objectives.held_folder import held_folder
from search.config.spec import StudySpec
from search.errors import ConfigError
from search.run_folder.artefact_files import digest as file_digest
from search.workers.run_isolated import run_isolated


def with_clean_copy(spec: StudySpec) -> StudySpec:
    """Return the study with a trusted checkpoint replaced by its clean copy. Raises as `clean_copy` does.

    Of several bases it is the one with that hash.
    """
    if spec.trust is None:
        return spec
    folder, models = Path(spec.project) / "trusted", list(spec.models)
    place = next((n for n, model in enumerate(models) if file_digest(Path(model)) == spec.trust), 0)
    models[place] = str(clean_copy(Path(models[place]), spec.trust, folder).resolve())
    return spec.model_copy(update={"models": tuple(models), "name": spec.run_name})


def clean_copy(model: Path, digest: str, folder: Path) -> Path:
    """Return the clean copy of a trusted checkpoint in `folder`; create it if missing.

    Args:
        digest: sha256 of the file, in hexadecimal: trust applies to its content, not its name.

    Raises:
        ConfigError: the file has another hash.
        PreparationFailed: it holds no network of stock classes.
    """
    copy = folder / f"{digest}.pt"
    if model.resolve() == copy.resolve():
        return copy
    found = file_digest(model)
    if found != digest:
        raise ConfigError(
            f"{model} is not the file that is trusted: its sha256 is {found}",
            where="trust",
            expected=f"a file with the sha256 {digest}",
        )
    if not copy.is_file():
        _make(model, digest, copy)
    return copy


def _make(model: Path, digest: str, copy: Path) -> None:
    with held_folder("trust") as folder:
        run_isolated(make_in_child, (model, digest, copy), folder, log_stays=False)


def make_in_child(model: Path, digest: str, copy: Path) -> None:
    """Unpickle a checkpoint and write its clean copy: what `clean_copy` does, in a child process."""
    from pruning.checkpoints.trusted import write_clean_copy

    write_clean_copy(model, digest, copy)
