"""The what-if table, base/whatif.json: the cost of any ratios, for the report and dashboard.

Written when a study is prepared. It is derived: `backfill` can write it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from objectives.image_size import Size, written
from pruning.cost_table import cost_table, width_rule
from search.space import Space

if TYPE_CHECKING:
    from pruning import ChannelGraph

FILE = "whatif.json"
FORMAT = 1


def what_if_table(graphs: Mapping[Size, ChannelGraph], space: Space, round_to: int) -> dict[str, Any]:
    """Return the space, the width rule and the costs; MACs per input size, the rest is the same for all.

    Returns:
        {"format", "dimensions": [{"name", "groups", "low", "high"}], "blocks": [{"path", "groups"}], "sizes",
        "rule": see `pruning.cost_table.width_rule`, "cost": see `cost_table`, but "macs" by input size}.
    """
    tables = {str(written(size)): cost_table(graph) for size, graph in graphs.items()}
    first = next(iter(graphs.values()))
    macs = {size: table.pop("macs") for size, table in tables.items()}
    return {
        "format": FORMAT,
        "dimensions": [
            {"name": d.name, "groups": list(d.groups), "low": d.low, "high": d.high} for d in space.dimensions
        ],
        "blocks": [{"path": block.path, "groups": list(block.groups)} for block in space.blocks],
        "sizes": list(map(written, space.sizes)),
        "rule": width_rule(first, round_to),
        "cost": {**next(iter(tables.values())), "macs": macs},
    }
