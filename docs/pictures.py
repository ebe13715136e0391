"""Draws the pictures of the documentation from a real run: `python docs/pictures.py runs/prune/NAME`.

They are what the dashboard shows, served and driven as in the tests of the page (tests/browser), so that the README can
never show a drawing that the tool does not make.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.browser.driver import Serving, chromium, drawn

WIDTH = 1280


@dataclass(frozen=True)
class Shot:
    """One picture: the state in the page's address, the element that is shown (empty: the window)."""

    name: str
    state: str
    part: str = ""
    height: int = 900
    dark: bool = False
    scroll: str = ""


def shots(trial: str, other: str, device: str = "") -> tuple[Shot, ...]:
    """The pictures of docs/dashboard.md and of the README; by a device's times where the run has some."""
    there = (Shot("target", f"on={device}", height=1300, part="#front"),) if device else ()
    return (
        *there,
        Shot("dashboard", f"trial={trial}", height=1000),
        Shot("front", "", part="#front", height=1000),
        Shot("drawer", f"trial={trial}", part="#drawer", height=2400),
        Shot("whatif", f"tab=whatif&w=trial:{trial}", part="#panel", height=1400),
        Shot("heatmap", "tab=heat", part="#panel", height=1400),
        Shot("sensitivity", f"tab=curves&trial={trial}", part="#panel", height=1400),
        Shot("compare", f"tab=compare&a={trial}&b={other}", part="#panel", height=1400),
        Shot("dark", f"trial={trial}&tab=whatif&w=trial:{trial}", height=1300, dark=True),
    )


def take(browser: Any, address: str, shot: Shot, folder: Path) -> Path:
    """Draw one picture as PNG of at most 256 colours."""
    from PIL import Image

    scheme = "dark" if shot.dark else "light"
    size = {"width": WIDTH, "height": shot.height}
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1.5)
    page = context.new_page()
    page.goto(f"{address}#{shot.state}")
    drawn(page)
    if "trial=" in shot.state:
        page.wait_for_selector("#drawer .classes, #drawer .shots")
    page.wait_for_timeout(600)  # plotly settles its margins, transitions end
    data = page.locator(shot.part).screenshot() if shot.part else page.screenshot()
    context.close()
    path = folder / f"{shot.name}.png"
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)
    return path


def pictures(run: Path, folder: Path, wanted: Sequence[Shot]) -> list[Path]:
    """All pictures of one run."""
    with Serving([run]).running() as serving, chromium() as browser:
        return [take(browser, serving.address, shot, folder) for shot in wanted]


def main() -> None:
    """Read the arguments and write the pictures."""
    parser = argparse.ArgumentParser(description="Draw docs/img/*.png from a run.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img")
    parser.add_argument("--trial", help="the trial that is opened; default: the pick of the first budget")
    parser.add_argument("--other", help="the trial that it is compared with; default: the dearest of the front")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of the pictures to draw; default: all")
    given = parser.parse_args()
    content = json.loads((given.run / "snapshot.json").read_text(encoding="utf-8"))
    trial = chosen(content) if given.trial is None else given.trial
    other = dearest(content) if given.other is None else given.other
    device = next(iter(content.get("on_targets") or {}), "")
    wanted = [shot for shot in shots(trial, other, device) if given.only is None or shot.name in given.only]
    for path in pictures(given.run, given.out, wanted):
        print(path)


def chosen(content: dict[str, Any]) -> str:
    """The pick of the first budget, else the first of the front."""
    picked = [pick["trial"] for pick in content["picks"].values() if pick["trial"] is not None]
    return str([*picked, *content["front"]][0])


def dearest(content: dict[str, Any]) -> str:
    """The slowest trial of the front."""
    rows = [row for row in content["trials"] if row["id"] in content["front"]]
    return str(max(rows, key=lambda row: row["figures"]["latency_ms"]["value"])["id"])


if __name__ == "__main__":
    main()
