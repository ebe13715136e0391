"""What if: the page computes what Python computes, to the last parameter, and shows it while a bar is dragged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.browser import runs
from tests.browser.conftest import OpenPage
from tests.browser.driver import Serving, drawn

COSTS = """cases => {
    const table = paretoprune.study.head.whatif, groups = paretoprune.study.head.groups;
    const sizes = Object.fromEntries(groups.map(group => [group.name, group.size]));
    return cases.map(([ratios, removed, imgsz]) => {
        const widths = paretoprune.widthsOf(table, sizes, ratios);
        const {params, macs} = paretoprune.costOf(table.cost, widths, removed, imgsz);
        return {widths, params, macs};
    });
}"""


def bench(open_page: OpenPage, served: Serving, state: str = "tab=whatif") -> Any:
    page = open_page(f"{served.address}#{state}", height=1400)
    drawn(page)
    page.wait_for_selector("#whatif-body .sky .col")
    return page


def test_the_page_counts_as_python_counts(open_page: OpenPage, served: Serving) -> None:
    chance = random.Random(7)
    wanted = [runs.candidate(chance) for _ in range(60)]
    page = bench(open_page, served)
    found = page.evaluate(COSTS, [[dict(one.ratios), list(one.removed), one.imgsz] for one in wanted])
    assert sum(bool(one.removed) for one in wanted) > 10
    gone = {block.path: block.groups for block in runs.space().blocks}
    for one, seen in zip(wanted, found, strict=True):
        widths, params, macs = runs.realised(one)
        hidden = {group for path in one.removed for group in gone[path]}
        hidden |= {runs.graph().groups[number].name for number in runs.graph().groups_gone_with_levels(one.removed)}
        assert {n: w for n, w in seen["widths"].items() if n not in hidden} == {
            n: w for n, w in widths.items() if n not in hidden
        }
        assert (seen["params"], seen["macs"]) == (params, macs)


def test_starting_from_a_trial_gives_its_figures(open_page: OpenPage, served: Serving, studio: Path) -> None:
    page = bench(open_page, served, "tab=whatif&w=trial:12&trial=12")
    row = next(row for row in json.loads((studio / "snapshot.json").read_text())["trials"] if row["number"] == 12)
    assert int(page.get_attribute("#whatif-body .gauges", "data-params")) == round(
        row["figures"]["params_m"]["value"] * 1e6
    )
    assert "nearest measured trial is 12" in page.inner_text("#whatif-body")


def test_dragging_a_bar_moves_its_stage_and_the_cost_at_once(open_page: OpenPage, served: Serving) -> None:
    page = bench(open_page, served)
    before = int(page.get_attribute("#whatif-body .gauges", "data-params"))
    name = next(d for d in runs.space().dimensions if len(d.groups) > 4)
    bar = page.locator(f"#whatif-body .col[aria-label^='{name.groups[2]}:']")
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.5, steps=5)
    page.mouse.up()
    after = int(page.get_attribute("#whatif-body .gauges", "data-params"))
    assert after < before
    slider = page.input_value(f"#whatif-body .sliders input[data-name='{name.name}']")
    assert 0.4 < float(slider) < 0.6
    _, params, _ = runs.realised(vector_of(page))
    assert after == params and "w=" in page.url


def test_one_layer_alone_is_shown_but_not_enqueued(open_page: OpenPage, served: Serving) -> None:
    page = bench(open_page, served)
    page.check("#whatif-body .controls input[type=checkbox]")
    page.focus("#whatif-body .sky .col[aria-label^='model.5:']")
    page.keyboard.press("PageDown")
    assert page.is_disabled("#whatif-body button:has-text('enqueue')")
    assert "moved alone" in page.inner_text("#whatif-body")
    assert page.get_attribute("#whatif-body .sky .col[aria-label^='model.6.cv2:']", "aria-valuenow") == "128"


def test_a_prediction_is_shown_where_the_study_has_a_model(open_page: OpenPage, studio: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(studio, run)
    content = json.loads((run / "snapshot.json").read_text())
    layers = {"model.0.conv": {"per_output": 0.01}, "model.1.conv": {"per_product": 0.001, "constant": 0.5}}
    model = {"imgsz": runs.SIZE, "constant_ms": 1.0, "layers": layers, "error_ms": 0.04, "tile": 24}
    (run / "snapshot.json").write_text(json.dumps({**content, "latency_model": model}))
    with Serving([run]).running() as served:
        page = bench(open_page, served)
        assert "2.89 ms" in page.inner_text("#whatif-body .gauges"), (
            "1 + 24 * 0.01 + 0.5 + 0.001 * 24 * 48: whole tiles"
        )
        assert "± 0.040 ms" in page.inner_text("#whatif-body .gauges")


def test_what_is_enqueued_is_left_for_the_coordinator(open_page: OpenPage, studio: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(studio, run)
    with Serving([run]).running() as served:
        page = bench(open_page, served, "tab=whatif&w=trial:12&trial=12")
        page.click("#whatif-body button:has-text('enqueue')")
        page.wait_for_selector("#dialog:has-text('when it is resumed')")
        page.click("#dialog button")
        page.wait_for_function("() => document.querySelector('#whatif-body').textContent.includes('1 waiting')")
    (request,) = (run / "enqueue").glob("*.json")
    asked = json.loads(request.read_text())["candidate"]
    row = next(row for row in json.loads((run / "snapshot.json").read_text())["trials"] if row["number"] == 12)
    assert all(abs(asked["ratios"][name] - ratio) < 1e-4 for name, ratio in row["candidate"]["ratios"].items())


def vector_of(page: Any) -> Any:
    """The candidate in the address."""
    from search.trial import Candidate

    size, ratios, _ = page.evaluate("paretoprune.chosen.w").split("|")
    names = [d.name for d in runs.space().dimensions]
    return Candidate(dict(zip(names, map(float, ratios.split(",")), strict=True)), int(size))


def test_sizes_of_two_sides_are_chosen_shown_and_enqueued(open_page: OpenPage, studio: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(studio, run)
    content = json.loads((run / "snapshot.json").read_text())
    for row in content["trials"]:
        row["candidate"]["imgsz"] = "192x320" if row["number"] == 12 else "384x640"
    content["study"]["imgsz"] = [384, 640]  # as args.yaml has it
    (run / "snapshot.json").write_text(json.dumps(content))
    table = json.loads((run / "base" / "whatif.json").read_text())
    (macs,) = table["cost"]["macs"].values()
    table["sizes"] = ["384x640", "192x320"]
    table["cost"]["macs"] = {"384x640": [[4 * factor, *rest] for factor, *rest in macs], "192x320": macs}
    (run / "base" / "whatif.json").write_text(json.dumps(table))
    with Serving([run]).running() as served:
        page = bench(open_page, served, "tab=whatif&w=trial:12&trial=12")
        size = page.locator("#whatif-body label:has-text('input') select")
        assert size.locator("option").all_inner_texts() == ["384x640 px", "192x320 px"]
        assert size.input_value() == "192x320" and "192x320 px, fp32" in page.inner_text("#drawer-title ~ *, .drawer")
        lower = int(page.get_attribute("#whatif-body .gauges", "data-macs"))
        size.select_option("384x640")
        assert int(page.get_attribute("#whatif-body .gauges", "data-macs")) == 4 * lower
        size.select_option("192x320")
        page.click("#whatif-body button:has-text('enqueue')")
        page.wait_for_selector("#dialog:has-text('when it is resumed')")
        page.click("#dialog button")
        (request,) = (run / "enqueue").glob("*.json")
        assert json.loads(request.read_text())["candidate"]["imgsz"] == "192x320"
        page = open_page(f"{served.address}#tab=table&sort=px", height=1400)
        page.wait_for_selector("#table tbody tr[data-id]")
        cells = page.locator("#table tbody tr[data-id]").first.locator("td").all_inner_texts()
        assert "192x320" in cells, "fewest pixels first"
