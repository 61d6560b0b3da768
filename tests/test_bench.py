"""The benchmark: its report is complete and plausible, and it refuses to measure itself."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.bench.records import percentile
from tools.bench.report import COLUMNS, GOALS, Measurement, ratios, ratios_text
from tools.bench.script import first_sentence_end, tokens

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="the generator needs a core of its own",
)


def bench(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with two calls for three seconds."""
    command = [sys.executable, "-m", "tools.bench", "--calls", "2", "--seconds", "3", "--runs", "1"]
    command += ["--patience", "0", "--json", str(file), *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )


@pytest.mark.thorough("it measures for seconds, and starts processes")
@pytest.mark.parametrize("mode", ["gevent", "threads"])
def test_both_patterns_are_measured_and_everything_is_reported(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "bench.json"
    # On a machine that runs other tests the generator may be late; here that is no matter.
    done = bench(file, "--mode", mode, "--lateness-limit", "10000")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(file.read_text("utf-8"))
    assert result["machine"]["versions"]["flask"] and result["machine"]["cpu"]
    relay, conversation = result["scenarios"]
    assert (relay["pattern"], conversation["pattern"]) == ("relay", "conversation")
    for scenario in (relay, conversation):
        check_scenario(scenario)
        assert f"{scenario['pattern']}, {mode}, 2" in done.stdout
    for name in ("turn_p50_ms", "clear_p50_ms"):  # nothing is said in a relay but the greeting
        assert relay["median"][name] is None
        assert conversation["median"][name] > 0
    assert conversation["median"]["replies"] >= 1


def check_scenario(scenario: dict[str, Any]) -> None:
    median = scenario["median"]
    known = {column.metric for column in COLUMNS} | {goal.metric for goal in GOALS}
    assert known <= median.keys() == scenario["min"].keys() == scenario["runs"][0].keys()
    for name in ("uplink", "down", "greeting"):
        times = [median[f"{name}_{label}_ms"] for label in ("p50", "p99", "max")]
        assert 0 < times[0] <= times[1] <= times[2]
    assert 0 < median["cpu_percent_per_call"] < 100
    assert 0 < median["generator_cpu_percent"] < 100
    assert 10 < median["idle_memory_mb"] < 1000
    assert median["dropped_calls"] == median["damaged_frames"] == 0
    assert median["left_open_sockets"] == median["left_open_threads"] == 0


@pytest.mark.thorough("it measures for seconds, and starts processes")
def test_a_bare_relay_is_measured_to_compare_with(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench(file, "--mode", "bare", "--lateness-limit", "10000")
    assert done.returncode == 0, done.stdout + done.stderr
    [bare] = json.loads(file.read_text("utf-8"))["scenarios"]
    assert (bare["pattern"], bare["mode"]) == ("relay", "bare")
    for name in ("uplink", "down", "greeting"):
        assert bare["median"][f"{name}_p50_ms"] > 0
    assert bare["median"]["damaged_frames"] == bare["median"]["lost_frames"] == 0


def scenario(pattern: str, mode: str, *cpu: float, calls: int = 100) -> Measurement:
    """A scenario whose runs took so much CPU a call, in percent of a core."""
    runs = [{"cpu_percent_per_call": each, "uplink_p99_ms": math.nan} for each in cpu]
    return Measurement(pattern, calls, mode, runs=runs)


def test_ratios_compare_run_by_run() -> None:
    bare = scenario("relay", "bare", 0.6, 0.8, 1.0)
    ours = [scenario("relay", "gevent", 0.3, 0.4, 0.6), scenario("conversation", "gevent", 0.6)]
    relay, conversation = ratios([*ours, bare])
    assert (relay["median"], relay["min"], relay["max"]) == (0.5, 0.5, 0.6)
    assert relay["reached"] and not conversation["reached"]
    assert "MISSED   conversation, gevent, 100" in ratios_text([relay, conversation])
    assert ratios(ours) == [] and ratios_text([]) == ""


def test_a_bare_relay_that_fills_the_core_is_nothing_to_compare_with() -> None:
    bare = [scenario("relay", "bare", 0.8), scenario("relay", "bare", 0.5, calls=200)]
    [compared] = ratios([scenario("relay", "gevent", 0.4, calls=200), *bare])
    assert (compared["calls"], compared["median"]) == (200, 0.5)


@pytest.mark.thorough("it measures for seconds, and starts processes")
def test_a_generator_that_is_the_bottleneck_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench(file, "--mode", "gevent", "--patterns", "relay", "--cpu-limit", "0.01")
    assert done.returncode == 3
    assert "the generator is the bottleneck" in done.stderr
    assert not file.exists() and "relay" not in done.stdout


def test_the_first_sentence_is_complete_when_the_next_begins() -> None:
    pieces = tokens("Yes, we do. At nine.")
    assert "".join(pieces) == "Yes, we do. At nine."
    assert pieces[first_sentence_end(pieces)] == " At"


def test_percentiles_are_samples() -> None:
    assert [percentile([5, 1, 4, 2, 3], share) for share in (0.5, 0.99, 1.0)] == [3, 5, 5]
    assert math.isnan(percentile([], 0.5))
