"""Draws the pictures of the documentation from a real run: `python docs/pictures.py runs/prune/NAME`.

The picture is the report's own front (`report.html#only=front`) as headless Chromium shows it, so that the README can
never show a drawing that the tool does not make. Chromium is Debian's package `chromium`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.present.report import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PROBE = "<!doctype html><body><script>document.body.textContent = `inner=${innerHeight}`</script>"


def browser() -> str:
    """The path of a Chromium.

    Raises:
        SystemExit: none is installed; the message says how to get one.
    """
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit("no Chromium found; on Debian: apt-get install chromium")
    return found


def run_browser(address: str, size: tuple[int, int], *flags: str) -> str:
    """Run headless Chromium once with a fresh profile; returns what it prints."""
    with tempfile.TemporaryDirectory(prefix="paretoprune-browser-") as profile:
        command = [
            browser(),
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            "--virtual-time-budget=10000",
            *flags,
            address,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def frame_height(folder: Path, size: tuple[int, int]) -> int:
    """Pixels of the window that are not page: headless Chromium counts a title bar that it does not draw."""
    probe = folder / "probe.html"
    probe.write_text(PROBE, encoding="utf-8")
    found = re.search(r"inner=(\d+)", run_browser(probe.as_uri(), size, "--dump-dom"))
    return size[1] - int(found[1]) if found else 0


def picture(snapshot: dict[str, object], out: Path, *, section: str, size: tuple[int, int], dark: bool) -> Path:
    """Write one section of the report as a PNG of twice `size`."""
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="paretoprune-picture-") as name:
        folder = Path(name)
        report = write_report(snapshot, folder / "report.html")
        window = (size[0], size[1] + frame_height(folder, size))
        shot = folder / "shot.png"
        theme = ("--blink-settings=preferredColorScheme=0",) if dark else ()
        address = f"{report.as_uri()}#only={section}"
        run_browser(address, window, "--force-device-scale-factor=2", f"--screenshot={shot}", *theme)
        out.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(shot) as image:
            image.crop((0, 0, 2 * size[0], 2 * size[1])).quantize(256).save(out, optimize=True)
    return out


def main() -> None:
    """Read the arguments and write the picture."""
    parser = argparse.ArgumentParser(description="Draw docs/img/front.png from a run.")
    parser.add_argument("run", type=Path, help="run folder with a snapshot.json")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img" / "front.png")
    parser.add_argument("--section", default="front", help="front, size, widths, progress, trials, ...")
    parser.add_argument("--size", default="1200x620", help="width x height in CSS pixels")
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    snapshot = json.loads((given.run / "snapshot.json").read_text(encoding="utf-8"))
    width, height = (int(part) for part in given.size.split("x"))
    print(picture(snapshot, given.out, section=given.section, size=(width, height), dark=given.dark))


if __name__ == "__main__":
    main()
