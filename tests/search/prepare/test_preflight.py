"""What a study cannot do is said before anything is traced, timed or trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.errors import ConfigError
from search.prepare.preflight import check_data, check_sizes
from tests.tiny_data import make_tiny_data


def with_strides(*strides: float) -> Any:
    return SimpleNamespace(stride=torch.tensor(strides))


@pytest.mark.parametrize(("strides", "size", "near"), [((8, 16, 32, 64), 96, "128"), ((8, 16, 32), 100, "96")])
def test_a_size_that_the_deepest_level_does_not_divide_is_refused(strides: Any, size: int, near: str) -> None:
    with pytest.raises(ConfigError, match=f"{size} is not a multiple of {int(max(strides))}") as refused:
        check_sizes(with_strides(*strides), [640, size])
    assert refused.value.expected == near


def test_sizes_of_a_network_without_strides_are_its_owners_affair() -> None:
    check_sizes(torch.nn.Linear(1, 1), [37])


def test_a_model_that_is_trained_with_texts_is_told_what_can_be_done(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import WorldModel

    world: Any = WorldModel.__new__(WorldModel)
    with pytest.raises(ConfigError, match="trained with a text for every class") as refused:
        check_data(world, make_tiny_data(tmp_path / "data"))
    assert "paretoprune prune" in str(refused.value.next_command)
