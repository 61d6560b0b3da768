"""The benchmark: its report is complete and plausible, and it refuses to measure itself."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.bench.compare import Cpu, Latency, Pair, compare, main, table
from tools.bench.load import Measured
from tools.bench.measure import TREE, AppFailed, BenchError
from tools.bench.records import Records, percentile
from tools.bench.report import COLUMNS, COUNTS, GOALS, Measurement, ratios, ratios_text
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


# --- one version against another --------------------------------------------------------------


def one_run(cpu: float, *turns: float, dropped: int = 0) -> Measured:
    """A run that took so much CPU a call, and whose turns took so many seconds."""
    records = Records()
    records.turn.extend(turns)
    counts = {**dict.fromkeys(COUNTS, 0), "dropped_calls": dropped}
    return Measured({"cpu_percent_per_call": cpu, **QUICK, **counts}, records)


QUICK = {"generator_cpu_percent": 1, "generator_lateness_p99_ms": 1, "others_cpu_percent": 1}


def test_a_version_that_is_slower_throughout_is_so_whichever_runs_are_drawn() -> None:
    pairs = [
        Pair(one_run(1.0, 0.010, 0.030), one_run(1.1, 0.011, 0.033)),
        Pair(one_run(2.0, 0.020, 0.090), one_run(2.2, 0.022, 0.099)),
    ]
    for figure in (Cpu(), Latency("turn", 0.5), Latency("turn", 0.99)):
        compared = compare(pairs, figure)
        assert compared and compared.change == "+10.0 %"
        assert compared.range == "+10.0 % to +10.0 %"


def test_percentiles_are_of_all_runs_together() -> None:
    quick = one_run(1.0, *[0.001] * 99)
    slow = one_run(1.0, *[0.005] * 99)
    compared = compare([Pair(quick, quick), Pair(quick, slow)], Latency("turn", 0.99))
    assert compared
    assert (compared.old, compared.new) == (pytest.approx(1.0), pytest.approx(5.0))
    assert compared.least == pytest.approx(1.0)  # now and then only the other pair is drawn
    assert compared.most == pytest.approx(5.0)


def test_a_table_tells_only_what_was_measured_and_what_went_wrong() -> None:
    pair = Pair(one_run(1.0, 0.01), one_run(0.9, dropped=2))  # without a turn
    heading, cpu, *rest = table([pair] * 4).splitlines()
    assert heading.split() == ["old", "new", "change", "90", "%", "range"]
    assert cpu.split() == ["CPU", "a", "call,", "%", "1.000", "0.900", "-10.0", "%"]
    assert rest == ["new: 8 dropped calls"]
    assert table([pair] * 5).splitlines()[1].endswith("-10.0 %  -10.0 % to -10.0 %")


def test_versions_run_in_turn_and_a_run_that_was_disturbed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").touch()
    trees: list[Path] = []
    late = {**QUICK, "generator_lateness_p99_ms": 99}

    def run(*arguments: Any) -> Measured:
        trees.append(arguments[-1])
        one = one_run(1.0 if trees[-1] == tmp_path else 2.0)
        return one._replace(metrics={**one.metrics, **late}) if len(trees) == 2 else one

    monkeypatch.setattr("tools.bench.compare.run", run)
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path), "--pairs", "2", "--patience", "0"])
    assert main() == 0
    assert trees == [tmp_path, TREE, TREE, TREE, tmp_path]  # the second was disturbed
    told = capsys.readouterr()
    assert "pairs of runs: 2" in told.out and "+100.0 %" in told.out
    assert "sent frames 99.0 ms late" in told.err


def test_what_is_complete_is_told_though_the_app_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").touch()
    ends: list[Measured | BaseException] = [one_run(1.0), one_run(1.0)]

    def run(*_: Any) -> Measured:
        end = ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr("tools.bench.compare.run", run)
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path), "--patience", "0"])
    for error, code in (
        (AppFailed("It has died."), 1),
        (BenchError("."), 3),
        (KeyboardInterrupt(), 130),
    ):
        ends[:] = [one_run(1.0), one_run(1.0), error]
        assert main() == code
        assert "pairs of runs: 1" in capsys.readouterr().out


def compare_with(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Compare this version with another, for seconds."""
    command = [sys.executable, "-m", "tools.bench.compare", str(checkout)]
    command += ["--calls", "2", "--seconds", "3", "--pairs", "1", "--patience", "0", *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )


@pytest.mark.thorough("it measures for seconds, and starts processes")
def test_a_version_is_compared_with_itself() -> None:
    done = compare_with(ROOT, "--lateness-limit", "10000")
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line.split(",")[0].strip() for line in done.stdout.splitlines()[2:]]
    assert names[:5] == ["CPU a call", "turn p50", "turn p99", "uplink p50", "uplink p99"]


def test_at_least_one_pair_is_compared() -> None:
    done = compare_with(ROOT, "--pairs", "0")
    assert done.returncode == 2
    assert "--pairs must be at least 1" in done.stderr


def test_only_a_checkout_can_be_compared_with(tmp_path: Path) -> None:
    done = compare_with(tmp_path)
    assert done.returncode == 2
    assert "name the folder of another checkout" in done.stderr
