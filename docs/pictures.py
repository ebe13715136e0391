"""Draws the pictures of the documentation from a real run: `python docs/pictures.py runs/prune/NAME`.

They are what the dashboard shows, served and driven as in the tests of the page (tests/browser), so that the README can
never show a drawing that the tool does not make.
"""

from __future__ import annotations

import argparse
import io
import sys
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


def shots(trial: int, other: int) -> tuple[Shot, ...]:
    """The pictures of docs/dashboard.md and of the README."""
    return (
        Shot("dashboard", f"trial={trial}", height=1000),
        Shot("front", "", part="#front", height=1000),
        Shot("drawer", f"trial={trial}", part="#drawer", height=2400),
        Shot("whatif", f"tab=whatif&w=trial:{trial}", part="#panel", height=1400),
        Shot("heatmap", "tab=heat", part="#panel", height=1400),
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


def pictures(run: Path, folder: Path, trial: int, other: int) -> list[Path]:
    """All pictures of one run."""
    with Serving([run]).running() as serving, chromium() as browser:
        return [take(browser, serving.address, shot, folder) for shot in shots(trial, other)]


def main() -> None:
    """Read the arguments and write the pictures."""
    parser = argparse.ArgumentParser(description="Draw docs/img/*.png from a run.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img")
    parser.add_argument("--trial", type=int, default=2, help="the trial that is opened")
    parser.add_argument("--other", type=int, default=5, help="the trial that it is compared with")
    given = parser.parse_args()
    for path in pictures(given.run, given.out, given.trial, given.other):
        print(path)


if __name__ == "__main__":
    main()
