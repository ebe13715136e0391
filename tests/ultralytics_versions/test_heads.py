"""Raw predictions of heads before 8.4.0, by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.pruning import zoo
from ultralytics_versions.heads import BOX_CHANNELS, named_outputs

CLASSES = 2


def levels(sides: tuple[int, ...] = (4, 2)) -> list[Tensor]:
    return [torch.rand(1, BOX_CHANNELS + CLASSES, side, side) for side in sides]


def test_levels_become_boxes_and_scores_of_all_cells() -> None:
    raw, decoded = levels(), torch.rand(1, 4 + CLASSES, 20)
    same, named = named_outputs((decoded, raw))
    assert same is decoded
    assert {name: tuple(part.shape) for name, part in named.items()} == {"boxes": (1, 64, 20), "scores": (1, 2, 20)}
    assert torch.equal(named["scores"][0, :, 16:], raw[1][0, BOX_CHANNELS:].flatten(1))


def test_coefficients_prototypes_and_branches_are_kept() -> None:
    decoded, coefficients, prototypes = torch.rand(1, 38, 20), torch.rand(1, 32, 20), torch.rand(1, 32, 8, 8)
    named = named_outputs((decoded, (levels(), coefficients, prototypes)))[1]
    assert list(named) == ["boxes", "scores", "part0", "part1"] and named["part0"] is coefficients
    branches = named_outputs((decoded, {"one2many": levels(), "one2one": levels()}))[1]
    assert {name: list(parts) for name, parts in branches.items()} == {
        "one2many": ["boxes", "scores"],
        "one2one": ["boxes", "scores"],
    }


def test_what_later_releases_and_other_networks_return_is_not_changed() -> None:
    later = (torch.rand(1, 6, 20), {"boxes": torch.rand(1, 64, 20), "scores": torch.rand(1, 2, 20), "feats": levels()})
    others: tuple[Any, ...] = (
        later,
        torch.rand(1, 10),
        [torch.rand(1, 3)],
        (torch.rand(1, 10), torch.rand(1, 10)),
        None,
    )
    assert all(named_outputs(value) is value for value in others)


def test_the_installed_release_answers_by_name() -> None:
    named = named_outputs(zoo.build("yolov8n.yaml")(zoo.picture()))[1]
    assert {"boxes", "scores"} <= named.keys()
