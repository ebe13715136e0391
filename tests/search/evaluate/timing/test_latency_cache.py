"""A latency as a file keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from objectives.latency.protocol import Latency
from objectives.objective import Estimate
from search.config.sections import LatencySpec
from search.evaluate.timing.latency_cache import LatencyCache, latency_from_json, latency_to_json, timing_key
from search.evaluate.timing.network_costs import Further

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


CALM = replace(TIMED, flags=())
FURTHER = {
    "e2e_ms": Further(Estimate(0.9, 0.85, 0.95), True, 8.0, {"rounds": 9, "flags": ["few_rounds"]}),
    "memory_mb": Further(Estimate(40.0, 39.0, 41.0)),
}


def test_further_costs_are_kept_beside_the_latency(tmp_path: Path) -> None:
    known, key = LatencyCache(tmp_path), timing_key(LatencySpec(), "w", 64, 64)
    known.add(key, CALM, FURTHER)
    found = known.costs(key, ["e2e_ms", "memory_mb"])
    assert found is not None and (found.latency, found.further) == (CALM, FURTHER)
    assert known.costs(key, ["energy_mj"]) is None, "what is not known is measured"
    known.add(key, CALM)  # `bench` times the network alone
    assert known.costs(key, ["e2e_ms"]) == found and known.find(key) == CALM
    known.add(key, CALM, {"e2e_ms": replace(FURTHER["e2e_ms"], facts={"flags": ["foreign_load"]})})
    assert known.costs(key, ["e2e_ms"]) is None and known.find(key) is None, "disturbed: measured again"
    known.add(key, CALM, {})
    assert known.costs(key) is not None and known.costs(key, ["e2e_ms"]) is None


def test_a_rectangle_is_found_again(tmp_path: Path) -> None:
    known, key = LatencyCache(tmp_path), timing_key(LatencySpec(), "w", (48, 64), (96, 128))
    known.add(key, CALM)
    assert known.find(key) == CALM and (key["imgsz"], key["base_imgsz"]) == ("48x64", "96x128")
    assert timing_key(LatencySpec(), "w", 64, 96).items() >= {"imgsz": 64, "base_imgsz": 96}.items(), "as in older keys"


def test_what_older_versions_have_timed_has_no_further_costs(tmp_path: Path) -> None:
    known, key = LatencyCache(tmp_path), timing_key(LatencySpec(), "w", 64, 64)
    known.add(key, CALM)
    found = known.costs(key)
    assert found is not None and not found.further and not found.facts
