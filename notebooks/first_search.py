"""Write first_search.ipynb: from the installation to a pick in five cells, on Colab or anywhere.

    python notebooks/first_search.py             # needs nbformat: pip install paretoprune[dev]

The cells are here, where they can be read, checked and compared; the notebook is what they give. A test executes it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().with_suffix(".ipynb")
INSTALL = "install"
"""The tag of the cell that a test of an installation leaves out."""

CELLS: tuple[tuple[str, str, str], ...] = (
    (
        "markdown",
        "",
        "# A first search\n\nParetoPrune searches how much of each layer of a YOLO model to remove. Here: a YOLOv8n "
        "that finds handwritten digits on photographs, for nine minutes. A GPU trains more in that time; "
        "what is timed is the processor of this machine.",
    ),
    ("markdown", "", "## 1. Install"),
    (
        "code",
        INSTALL,
        'REPOSITORY = "https://..."  # where this notebook is from\n'
        "!git clone --quiet --depth 1 {REPOSITORY} paretoprune\n"
        "%cd paretoprune\n"
        "%pip install --quiet .\n"
        "!paretoprune --version",
    ),
    (
        "markdown",
        "",
        "## 2. Model and data\n\nThe model is trained already. With one of your own, `best.pt` and the `data.yaml` of "
        "its training, this cell is `!paretoprune init model=best.pt data=data.yaml`.",
    ),
    ("code", "", "!python studies/digits/make_data.py\nassert _exit_code == 0"),
    ("markdown", "", "## 3. Search\n\nEach trial is a line. Interrupt it when you like: the same cell goes on."),
    (
        "code",
        "",
        "!paretoprune search studies/digits/study.yaml name=first device=auto "
        "search.trials=10 search.hours=0.15 recover.epochs=1\n"
        "assert _exit_code == 0",
    ),
    ("markdown", "", "## 4. The front\n\nEverything that was measured, and a verdict: was pruning worth it?"),
    (
        "code",
        "",
        "from html import escape\n"
        "from pathlib import Path\n\n"
        "from IPython.display import HTML\n\n"
        "!paretoprune report runs/prune/first\n"
        'page = Path("runs/prune/first/report.html").read_text()\n'
        'HTML(f\'<iframe srcdoc="{escape(page)}" width="100%" height="900"></iframe>\')',
    ),
    (
        "markdown",
        "",
        "## 5. Pick\n\nThe most accurate trial within 80 % of the base's latency, and its file, verified.",
    ),
    (
        "code",
        "",
        "!paretoprune pick runs/prune/first --max latency_ms=80%\n"
        "assert _exit_code == 0\n"
        "!paretoprune export runs/prune/first:pick format=onnx\n"
        "assert _exit_code == 0",
    ),
)


def build() -> Any:
    """The notebook without outputs, the same bytes each time."""
    import nbformat

    made = nbformat.v4.new_notebook()
    for number, (kind, tag, source) in enumerate(CELLS):
        new = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        made.cells.append(new(source, id=f"cell-{number}", metadata={"tags": [tag]} if tag else {}))
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def main() -> None:
    """Write first_search.ipynb."""
    import nbformat

    parser = argparse.ArgumentParser(description="Write first_search.ipynb.")
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    nbformat.write(build(), parser.parse_args().out)


if __name__ == "__main__":
    sys.exit(main())
