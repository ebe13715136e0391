"""A latency as a file keeps it."""

from __future__ import annotations

import json

from objectives.latency.protocol import Latency
from objectives.objective import Estimate
from search.config.sections import LatencySpec
from search.evaluate.timing.latency_cache import latency_from_json, latency_to_json, timing_key

TIMED = Latency(Estimate(0.8, 0.79, 0.82), 4.0, 4.4, 5.0, 5.3, 12, 3.25, ("drift",), (0.79, 0.8, 0.83))


def test_it_comes_back_whole() -> None:
    assert latency_from_json(json.loads(json.dumps(latency_to_json(TIMED)))) == TIMED


def test_a_file_from_before_single_rounds_were_kept_is_read() -> None:
    old = {key: value for key, value in latency_to_json(TIMED).items() if key != "ratios"}
    assert latency_from_json(old).ratios == ()


def test_a_ratio_to_a_base_in_another_precision_is_another_one() -> None:
    spec = LatencySpec()
    plain = timing_key(spec, "w", 64, 64, "int8")
    assert "base_precision" not in plain, "what older versions have timed beside a base in float32 is still found"
    assert timing_key(spec, "w", 64, 64, "int8", 0, "int8") == {**plain, "base_precision": "int8"}
