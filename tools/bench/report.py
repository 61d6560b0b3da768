"""What came out, as a table to read and as JSON to keep."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tools.bench.measure import BARE

Metrics = dict[str, float]


@dataclass
class Measurement:
    """One pattern at one number of calls, and what each run of it gave."""

    pattern: str
    calls: int
    mode: str
    tls: bool = False
    runs: list[Metrics] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why runs of it don't count."""

    @property
    def name(self) -> str:
        return f"{self.pattern}, {self.mode}{', TLS' if self.tls else ''}, {self.calls}"

    def values(self, metric: str) -> list[float]:
        """Return what the runs gave, without those that gave nothing."""
        return [run[metric] for run in self.runs if not math.isnan(run[metric])]

    def median(self, metric: str) -> float:
        """Return the median over the runs; NaN if none gave any."""
        values = self.values(metric)
        return statistics.median(values) if values else math.nan

    def as_json(self) -> dict[str, Any]:
        """Return everything, NaN as null."""
        over: dict[str, Callable[[list[float]], float]] = {
            "median": statistics.median,
            "min": min,
            "max": max,
        }
        result: dict[str, Any] = {
            "pattern": self.pattern,
            "mode": self.mode,
            "tls": self.tls,
            "calls": self.calls,
            "refused": self.refused,
        }
        for label, summarize in over.items():
            names = self.runs[0] if self.runs else {}
            summary = {name: summarize(v) if (v := self.values(name)) else None for name in names}
            result[label] = {name: _rounded(value) for name, value in summary.items()}
        result["runs"] = [{n: _rounded(value) for n, value in run.items()} for run in self.runs]
        return result


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


# --- the table --------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column: its two lines of heading, the metric, and how many digits."""

    heading: str
    below: str
    metric: str
    digits: int = 1


COLUMNS = (
    Column("uplink", "p50", "uplink_p50_ms", 2),
    Column("", "p99", "uplink_p99_ms"),
    Column("", "max", "uplink_max_ms"),
    Column("down", "p50", "down_p50_ms", 2),
    Column("", "p99", "down_p99_ms"),
    Column("clear", "p50", "clear_p50_ms"),
    Column("", "p99", "clear_p99_ms"),
    Column("turn", "p50", "turn_p50_ms"),
    Column("", "p99", "turn_p99_ms"),
    Column("greeting", "p50", "greeting_p50_ms"),
    Column("", "p99", "greeting_p99_ms"),
    Column("CPU", "%/call", "cpu_percent_per_call", 3),
    Column("memory", "MB/call", "memory_mb_per_call", 3),
    Column("generator", "CPU %", "generator_cpu_percent", 0),
    Column("", "late p99", "generator_lateness_p99_ms"),
    Column("others", "CPU %", "others_cpu_percent", 0),
)
LEGEND = """\
Medians of the runs, below them the lowest and highest run; times in ms. uplink: a frame sent by
Twilio until Realtime sees it. down: audio sent by Realtime until the caller gets it, each reply's
first (relay: all of it). clear: speech_started until `clear`. turn: transcript until the reply's
first audio at the caller, less what the script took for workflow and speech. greeting: `start`
until its first audio, likewise. CPU: of the worker's core. memory: resident, over the idle worker.
generator: its own CPU, and how late it sent frames. others: what else kept either core busy."""
COUNTS = {
    "late_replies": "late replies",
    "dropped_calls": "dropped calls",
    "lost_frames": "lost frames",
    "damaged_frames": "damaged frames",
    "left_open_threads": "threads left open",
    "left_open_files": "files left open",
    "left_open_sockets": "sockets left open",
}
DISTURBED = 10.0  # % of a core


def table(scenarios: Iterable[Measurement]) -> str:
    """Return the table, two lines a scenario, with what it means and what went wrong."""
    rows = [
        ["calls", *(column.heading for column in COLUMNS)],
        ["", *(column.below for column in COLUMNS)],
    ]
    notes = []
    for scenario in scenarios:
        if scenario.refused:
            notes += [f"{scenario.name}: {why}" for why in scenario.refused]
        if not scenario.runs:
            rows.append([scenario.name, *["-"] * len(COLUMNS)])
            continue
        medians = (_number(scenario.median(c.metric), c.digits) for c in COLUMNS)
        rows.append([scenario.name, *medians])
        if len(scenario.runs) > 1:
            rows.append(["", *(_spread(scenario, column) for column in COLUMNS)])
        notes.append(f"{scenario.name}: {_counts(scenario)}")
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *others]).rstrip())
    lines.insert(2, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", LEGEND, "", *notes])


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _spread(scenario: Measurement, column: Column) -> str:
    values = scenario.values(column.metric)
    if not values:
        return ""
    low, high = (_number(value, column.digits) for value in (min(values), max(values)))
    return low if low == high else f"{low}-{high}"


def _counts(scenario: Measurement) -> str:
    """Say what was lost or left open, in all runs together, and what disturbed them."""
    found = [
        f"{sum(scenario.values(metric)):.0f} {words}"
        for metric, words in COUNTS.items()
        if max(scenario.values(metric)) > 0
    ]
    kept = scenario.median("kept_workflow_connections")
    said = ", ".join(found) or "nothing late, lost or left open"
    every = scenario.median("turn_every_s")
    said += f"; a turn every {every:.1f} s" * (every > 0)
    said += f"; {kept:.0f} idle connections kept for the workflow" * (kept > 0)
    if max(scenario.values("others_cpu_percent")) > DISTURBED:
        said += "; DISTURBED: something else ran on these cores"
    return said


# --- what was asked for -----------------------------------------------------------------------


class Goal(NamedTuple):
    """The most a metric may be, at so many calls."""

    pattern: str
    mode: str
    calls: int
    metric: str
    most: float


GOALS = (
    Goal("relay", "gevent", 100, "uplink_p99_ms", 10),
    Goal("relay", "gevent", 100, "cpu_percent_per_call", 0.35),
    Goal("relay", "gevent", 200, "uplink_p99_ms", 15),
    Goal("relay", "gevent", 200, "cpu_percent_per_call", 0.25),
    Goal("conversation", "gevent", 100, "uplink_p99_ms", 20),
    Goal("conversation", "gevent", 100, "clear_p99_ms", 8),
    Goal("conversation", "gevent", 100, "turn_p50_ms", 5),
    Goal("conversation", "gevent", 100, "turn_p99_ms", 50),
    Goal("conversation", "gevent", 100, "cpu_percent_per_call", 0.45),
    Goal("conversation", "gevent", 200, "turn_p99_ms", 150),
    Goal("conversation", "gevent", 200, "late_replies", 0),
    Goal("conversation", "gevent", 200, "dropped_calls", 0),
    Goal("conversation", "threads", 50, "uplink_p99_ms", 8),
    Goal("conversation", "threads", 50, "turn_p50_ms", 5),
    *(
        Goal(pattern, "gevent", calls, metric, most)
        for pattern in ("relay", "conversation")
        for calls in (100, 200)
        for metric, most in (
            ("memory_mb_per_call", 0.1),
            ("left_open_threads", 0),
            ("left_open_sockets", 0),
        )
    ),
    Goal("conversation", "threads", 50, "start_s", 1.5),
)


def goals(scenarios: Iterable[Measurement]) -> list[dict[str, Any]]:
    """Compare the medians with what was asked for, as far as it was measured."""
    by_name = {(s.pattern, s.mode, s.calls): s for s in scenarios if not s.tls and s.runs}
    result = []
    for goal in GOALS:
        scenario = by_name.get((goal.pattern, goal.mode, goal.calls))
        if scenario and not math.isnan(value := scenario.median(goal.metric)):
            reached = value <= goal.most
            result.append({**goal._asdict(), "median": _rounded(value), "reached": reached})
    return result


def goals_text(compared: list[dict[str, Any]]) -> str:
    """Return the comparison, a line each, what was missed first."""
    lines = []
    for each in sorted(compared, key=lambda each: each["reached"]):
        word = "reached" if each["reached"] else "MISSED "
        where = f"{each['pattern']}, {each['mode']}, {each['calls']}"
        lines.append(
            f"{word}  {where:28} {each['metric']:22} {each['median']:9.3f}, at most {each['most']}"
        )
    return "\n".join(lines)


class Target(NamedTuple):
    """The most a metric may be, in multiples of what a bare relay takes for 100 calls.

    It is what the goals above come to: they were set beside a bare relay that took 0.53 % of a core
    a call and passed sound on within 14 ms (p99). With 200 it may fill the core, and then it tells
    nothing of how fast the machine is.
    """

    pattern: str
    calls: int
    metric: str
    most: float


REFERENCE_CALLS = 100
TARGETS = (
    Target("relay", 100, "cpu_percent_per_call", 0.66),
    Target("relay", 200, "cpu_percent_per_call", 0.47),
    Target("conversation", 100, "cpu_percent_per_call", 0.85),
    Target("relay", 100, "uplink_p99_ms", 0.71),
    Target("relay", 200, "uplink_p99_ms", 1.07),
)


def ratios(scenarios: Iterable[Measurement]) -> list[dict[str, Any]]:
    """Compare with a bare relay of 100 calls, run by run in the order they were made.

    On a machine shared with others such a ratio says more than the figures it is made of.
    """
    by_name = {(s.pattern, s.mode, s.calls): s for s in scenarios if not s.tls and s.runs}
    result = []
    for target in TARGETS:
        ours = by_name.get((target.pattern, "gevent", target.calls))
        bare = by_name.get(("relay", BARE, REFERENCE_CALLS))
        if ours and bare:
            pairs = zip(ours.values(target.metric), bare.values(target.metric), strict=False)
            if not (found := [mine / other for mine, other in pairs]):
                continue
            median = statistics.median(found)
            spread = {
                "median": _rounded(median),
                "min": _rounded(min(found)),
                "max": _rounded(max(found)),
            }
            result.append({**target._asdict(), **spread, "reached": median <= target.most})
    return result


def ratios_text(compared: list[dict[str, Any]]) -> str:
    """Return the comparison, a line each."""
    lines = [f"As multiples of a bare relay, {REFERENCE_CALLS}: median (lowest-highest), at most"]
    for each in compared:
        word = "reached" if each["reached"] else "MISSED "
        where = f"{each['pattern']}, gevent, {each['calls']}"
        lines.append(
            f"{word}  {where:28} {each['metric']:22} {each['median']:.2f}"
            f" ({each['min']:.2f}-{each['max']:.2f}), {each['most']}"
        )
    return "\n".join(lines) if compared else ""


def tls_text(scenarios: list[Measurement]) -> str:
    """Say what TLS towards OpenAI costs, against the same calls without."""
    plain = {(s.pattern, s.mode, s.calls): s for s in scenarios if not s.tls and s.runs}
    lines = []
    for scenario in scenarios:
        other = plain.get((scenario.pattern, scenario.mode, scenario.calls))
        if scenario.tls and scenario.runs and other:

            def more(metric: str, a: Measurement = scenario, b: Measurement = other) -> float:
                return a.median(metric) - b.median(metric)

            lines.append(
                f"TLS costs, {other.name}: {more('cpu_percent_per_call'):+.3f} % CPU and"
                f" {more('memory_mb_per_call'):+.3f} MB a call, uplink p50"
                f" {more('uplink_p50_ms'):+.2f} ms and p99 {more('uplink_p99_ms'):+.1f} ms,"
                f" greeting p50 {more('greeting_p50_ms'):+.1f} ms"
            )
    return "\n".join(lines)


def write_json(
    file: Path, scenarios: list[Measurement], machine: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """Write everything that was measured."""
    result = {
        "machine": machine,
        "arguments": arguments,
        "scenarios": [scenario.as_json() for scenario in scenarios],
        "goals": goals(scenarios),
        "ratios": ratios(scenarios),
    }
    file.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
