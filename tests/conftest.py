"""Shared by all tests: quiet libraries, one thread, no accelerator needed."""

from __future__ import annotations

import gc
import multiprocessing
import os
from multiprocessing import forkserver

import pytest

from tests.shelf import open_shelf, remember_traces

LONGEST = (
    *("test_pruning_evaluator.py", "test_pruning_evaluator_tasks.py", "test_onnx_int8.py", "test_plan_zoo.py"),
    *("test_loop.py", "test_reduced_precision.py", "test_repair.py", "test_page.py", "test_ray.py"),
    *("test_user_task.py", "test_delivery.py", "test_finetune.py", "test_iterative.py", "test_real_pictures.py"),
    *("test_sparsify.py", "test_verified_export.py", "test_manners.py", "test_soak.py", "test_processes.py"),
    *("test_compare.py", "test_slimming.py", "test_export.py", "test_offline.py", "test_block_removal.py"),
)
"""Files that take long, the longest first: they begin, so that none of them is left to one worker alone at the end."""

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")


@pytest.fixture(scope="session", autouse=True)
def _shelf(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One folder for all workers, in the temporary folder of this run."""
    base = tmp_path_factory.getbasetemp()
    open_shelf((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shelf")
    remember_traces()


@pytest.fixture(scope="session", autouse=True)
def _own_measuring_lock(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No figure of a test has to be undisturbed: none waits for another worker, or for a search on this machine."""
    os.environ["PARETOPRUNE_MEASURING_LOCK"] = str(tmp_path_factory.getbasetemp() / "measuring.lock")


@pytest.fixture(scope="session", autouse=True)
def _fork_server(request: pytest.FixtureRequest, _shelf: None, _own_measuring_lock: None) -> None:
    """Its first child decides what the fork server has loaded. Were that a child of the known front, which needs no
    torch, then every real trial after it would import torch and Ultralytics on its own: seconds each."""
    files = {item.path for item in request.session.items}
    if len(files) > 1 and any({"search", "studies"} & set(path.parts) for path in files):
        from search.testing.known_front import PRELOAD as KNOWN_PRELOAD
        from search.workers.child_process import PRELOAD

        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOAD, *KNOWN_PRELOAD, "tests.warm"])
        forkserver.ensure_running()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order within a file stays."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    """What was imported by now stays: the collections that Ultralytics asks for, several in every training, leave it
    out."""
    gc.collect()
    gc.freeze()
