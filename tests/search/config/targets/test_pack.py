"""Packs: those of the package hold what they promise, and a user's own is refused with all its faults at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.config.precision_support import precisions_of
from search.config.targets.pack import FOLDER, NAMES, read_pack, target_fault
from search.errors import ConfigError
from search.export.formats import FORMATS


def test_every_file_of_the_folder_is_a_pack_by_name() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_can_be_run_and_delivered_and_names_its_sources(name: str) -> None:
    pack = read_pack(name)
    latency = pack.study.latency if pack.study.latency.runtime else pack.instead
    assert latency.runtime is not None and pack.study.space.precision and pack.study.space.round_to
    known = precisions_of(latency.runtime, latency.device or "cpu")
    assert set(pack.study.space.precision) <= set(known)
    instead = pack.instead.runtime
    assert instead is None or set(pack.study.space.precision) <= set(precisions_of(instead))
    assert pack.export.quantize in FORMATS[pack.export.format].precisions
    assert pack.sources and all(source.startswith("https://") for source in pack.sources)
    assert pack.title and (pack.study.latency.runtime or pack.measure)


def test_rounding_is_that_of_the_hardware() -> None:
    rounding = {name: read_pack(name).study.space.round_to for name in NAMES}
    assert rounding == {
        "pi5-ncnn": "auto", "cpu-openvino": "auto", "orin-int8": 32, "rk3588": 32, "htp": 32,
        "hailo8l": 8, "imx500": 8, "coral": 8,
    }  # fmt: skip


def test_a_pack_of_ones_own_needs_no_more_than_a_name_of_the_device(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("device: camera\nsources: https://example.org\nstudy: {latency: {runtime: mnn, device: cpu}}\n")
    pack = read_pack(str(path))
    assert pack.study.keys() == {"latency.runtime": "mnn", "latency.device": "cpu"}
    assert pack.sources == ("https://example.org",)


def test_all_faults_of_a_pack_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: x\nstudy:\n  latency: {runtime: nncn}\n  space:\n    rond_to: 3\n    round_to: 1000\n"
        "forbid: {width: no}\nweights_mb: -1\nsource: x\nnetworks: {yolov9: {}}\nexport: {quantize: 4}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_pack(str(path))
    text = str(caught.value)
    for row in (
        "the target has",
        "mine.yaml: device: missing",
        "mine.yaml line 3: study.latency.runtime: Unknown runtime 'nncn'. Did you mean ncnn?",
        "mine.yaml line 5: study.space.rond_to: unknown key; did you mean round_to?",
        "expected auto, or 1 to 256, found 1000",
        "mine.yaml line 7: forbid.width",
        "mine.yaml line 8: weights_mb: input should be greater than 0, found -1",
        "mine.yaml line 9: source: unknown key; did you mean sources?",
        "mine.yaml line 10: networks.yolov9",
        "mine.yaml line 11: export.quantize",
        "docs/targets.md",
    ):
        assert row in text, row


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("imx50", "did you mean imx500?"),
        ("IMX500", "did you mean imx500?"),
        ("nothing.yaml", "no such file: nothing.yaml"),
        (5, "or a YAML file of your own, found 5"),
        ({"device": "x"}, "expected one of pi5-ncnn"),
    ],
)
def test_what_is_no_target_is_refused_with_what_is(asked: object, said: str) -> None:
    assert said in (target_fault(asked) or "")


PAGE = Path(__file__).parents[4] / "docs" / "targets.md"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_a_pack_sets(name: str) -> None:
    text, pack = PAGE.read_text(), read_pack(name)
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    ceiling = "by family and task" if pack.networks else f"{pack.weights_mb:g} MB" if pack.weights_mb else ""
    assert cells[1:8] == [
        pack.title,
        pack.study.latency.runtime or "",
        ", ".join(pack.study.space.precision or ()),
        str(pack.study.space.round_to),
        ceiling,
        ", ".join(pack.forbid),
        f"`{pack.export.format}` {pack.export.quantize}",
    ]
    assert all(f"<{source}>" in text for source in pack.sources)


def test_the_pack_of_the_page_is_one(tmp_path: Path) -> None:
    block = next(part for part in PAGE.read_text().split("```") if part.startswith("yaml\n"))
    (tmp_path / "mine.yaml").write_text(block.removeprefix("yaml\n"))
    pack = read_pack(str(tmp_path / "mine.yaml"))
    assert set(type(pack).model_fields) - pack.model_fields_set == {"networks"}, "it shows every other key"
    assert (pack.device, pack.weights_mb, pack.study.space.round_to) == ("ACME camera", 4, 16)
