"""Write slimming.ipynb and execute it: the write-up's two notebooks, analysis and comparison, as a small one.

    python studies/slimming/notebook.py          # needs nbclient and ipykernel: pip install paretoprune[dev]

The cells are here, where they can be read, checked and compared; the notebook is what they give. Executed without a
training: the base is pruned while the notebook runs, what was trained is read from compare.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE / "slimming.ipynb"
SECONDS = 300

CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        "# Network slimming of a YOLOv8n\n\nSparsity training pushes batch-norm scales towards zero; channels with "
        "small scales go. First: what pruning by scale removes, counted while this runs. Then: original, pruned, "
        "fine-tuned.",
    ),
    (
        "code",
        "import json\nfrom pathlib import Path\n\nimport matplotlib.pyplot as plt\nimport torch\n"
        "from pruning import trace\nfrom pruning.checkpoints.checkpoint import count_parameters, load_model\n\n"
        "base = load_model(Path('../digits/yolov8n-digits.pt'))\ngraph = trace(base, torch.zeros(1, 3, 128, 128))\n"
        "print(f'{count_parameters(base):,} parameters, {len(graph.free)} groups of channels')",
    ),
    ("markdown", "## What is removed\n\nThe published table has 3,157,200 parameters before and after pruning. Here:"),
    (
        "code",
        "for ratio in (0.1, 0.2, 0.3):\n"
        "    plan = graph.plan(ratio, importance='bn_gamma', ranking='global', round_to=8)\n"
        "    small = plan.apply(base)\n"
        "    gone = sum(group.size for group in graph.groups) - sum(plan.widths.values())\n"
        "    print(f'{ratio}: {gone:5,} channels removed, {count_parameters(small):,} parameters')\n"
        "    assert count_parameters(small) == plan.cost().params",
    ),
    ("markdown", "## The scales of the base\n\nSmall ones go first, each divided by the mean of its group."),
    (
        "code",
        "norms = [m for m in base.modules() if isinstance(m, torch.nn.BatchNorm2d)]\n"
        "scales = torch.cat([(m.weight.detach().abs() / m.weight.detach().abs().mean()) for m in norms])\n"
        "figure, axes = plt.subplots(figsize=(5, 2.2), dpi=60, layout='constrained')\n"
        "_ = axes.hist(scales.numpy(), bins=60, range=(0, 3))\n"
        "_ = axes.set(xlabel='scale / mean of its layer', ylabel='channels')",
    ),
    ("markdown", "## Original, pruned, fine-tuned\n\nFrom compare.json, which `sh studies/slimming/run.sh` writes."),
    (
        "code",
        "file = Path('compare.json')\nrows = json.loads(file.read_text()) if file.exists() else []\n"
        "for row in rows:\n"
        "    name = row['model'].removeprefix('runs/slimming/').removeprefix('studies/digits/')\n"
        "    size = f\"{row['params_m']:.3f} M\" if row['params_m'] else 'exported'\n"
        "    found = f\"{row['found']:4} of {row['labels']} found\" if row['params_m'] else ''\n"
        "    print(f\"{name:28} {size:8}  {row['size_mb']:.2f} MB  {row['latency_ms']:.2f} ms  \"\n"
        "          f\"{row['fps']:4.0f} FPS  {found:18}  mAP {row['figures']['map50_95']:.3f}\")\n"
        "sizes = [row['params_m'] for row in rows if row['params_m']]\n"
        "assert all(size < sizes[0] for size in sizes[1:])",
    ),
)


def build(cells: tuple[tuple[str, str], ...] = CELLS) -> Any:
    """The notebook without outputs, the same bytes each time."""
    import nbformat

    made = nbformat.v4.new_notebook()
    makers = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made.cells = [makers[kind](source, id=f"cell-{number}") for number, (kind, source) in enumerate(cells)]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def execute(notebook: Any, folder: Path = HERE) -> Any:
    """Run all cells in `folder`; raises nbclient's CellExecutionError for a cell that fails."""
    from nbclient import NotebookClient

    here = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=here).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of this machine
    notebook.metadata.pop("language_info", None)
    return notebook


def main() -> None:
    """Write slimming.ipynb."""
    import nbformat

    parser = argparse.ArgumentParser(description="Write and execute slimming.ipynb.")
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    nbformat.write(execute(build()), parser.parse_args().out)


if __name__ == "__main__":
    sys.exit(main())
