"""Measure how many calls the app carries: `python -m tools.bench`, or `make bench`.

Exit code 0 when everything was measured (whether or not the goals were reached), 1 when the app
failed, 3 when something can't be measured here, since the generator would be the bottleneck.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tools.bench import measure, report
from tools.bench.load import PATTERNS, SECONDS, run
from tools.bench.measure import AppFailed, BenchError
from tools.bench.report import REFERENCE_CALLS, Measurement, Metrics
from tools.certificate import Certificate
from tools.ports import ReservedPort

CALLS, THREAD_CALLS, TLS_CALLS = (1, 30, 100, 200), (50,), (100,)
BARE_CALLS = (REFERENCE_CALLS, 200)
ATTEMPTS = 2  # at each run, if the generator couldn't keep up


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    add = parser.add_argument
    add("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS), help="default: both")
    add("--calls", nargs="+", type=int, help="calls at once; default: 1 30 100 200, threads 50")
    add("--runs", type=int, default=3, help="runs of each, of which the median counts; default: 3")
    add("--seconds", type=float, help="measured in each run; default: relay 10, conversation 20")
    add(
        "--mode",
        choices=[*measure.COMMANDS],
        help="default: gevent, conversations on threads, and a bare relay to compare with",
    )
    add("--json", type=Path, default=Path("bench.json"), help="default: bench.json")
    add("--tls", action="store_true", help="measure once with TLS towards OpenAI, too")
    add("--quick", action="store_true", help="a smoke run of about a minute")
    add(
        "--cpu-limit",
        type=float,
        default=measure.CPU_LIMIT,
        help="most CPU the generator may use, %%",
    )
    add(
        "--lateness-limit",
        type=float,
        default=measure.LATENESS_LIMIT,
        help="most p99 of its own lateness, ms",
    )
    add(
        "--patience",
        type=float,
        default=measure.QUIET_SECONDS,
        help="most s to wait for quiet; default: 20",
    )
    given = parser.parse_args()
    if given.quick:
        given.runs, given.seconds = 1, 3.0
    return given


def plan(given: argparse.Namespace) -> list[Measurement]:
    """Return what is to be measured."""
    gevent = given.calls or ((30,) if given.quick else CALLS)
    threads = given.calls or ((10,) if given.quick else THREAD_CALLS)
    scenarios = []
    for pattern in given.patterns:
        if given.mode in (None, "gevent"):
            scenarios += [Measurement(pattern, calls, "gevent") for calls in gevent]
        if pattern == "relay" and given.mode in (None, measure.BARE):
            beside = [calls for calls in gevent if calls in BARE_CALLS] or [max(gevent)]
            scenarios += [Measurement(pattern, calls, measure.BARE) for calls in beside]
        if given.mode == "threads" or (pattern == "conversation" and given.mode is None):
            scenarios += [Measurement(pattern, calls, "threads") for calls in threads]
    if given.tls and given.mode != measure.BARE:
        for pattern in given.patterns:
            alike = [s for s in scenarios if s.pattern == pattern and s.mode != measure.BARE]
            chosen = min(alike, key=lambda s: abs(s.calls - TLS_CALLS[0]))
            scenarios.append(Measurement(pattern, chosen.calls, chosen.mode, tls=True))
    return scenarios


def measure_all(
    scenarios: list[Measurement],
    given: argparse.Namespace,
    cores: tuple[int, int],
    certificate: Certificate | None,
) -> None:
    """Run everything, one run of each after the other, so that a busy minute hits all alike."""
    for number in range(given.runs):
        for scenario in scenarios:
            if scenario.tls and number:
                continue
            for _ in range(ATTEMPTS):
                begun = time.monotonic()
                measure.wait_for_quiet(cores, given.patience)
                with ReservedPort() as port:
                    metrics = run(
                        scenario.pattern,
                        scenario.calls,
                        given.seconds or SECONDS[scenario.pattern],
                        scenario.mode,
                        cores,
                        port.number,
                        certificate if scenario.tls else None,
                    ).metrics
                refusal = measure.bottleneck(metrics, given.cpu_limit, given.lateness_limit)
                print(
                    f"  {scenario.name}, run {number + 1} of {given.runs}:"
                    f" {refusal or _gist(metrics)} ({time.monotonic() - begun:.0f} s)",
                    file=sys.stderr,
                    flush=True,
                )
                if not refusal:
                    scenario.runs.append(metrics)
                    break
                scenario.refused.append(refusal)


def _gist(metrics: Metrics) -> str:
    return (
        f"uplink p99 {metrics['uplink_p99_ms']:.1f} ms, turn p99 {metrics['turn_p99_ms']:.1f} ms,"
        f" {metrics['cpu_percent_per_call']:.3f} % CPU a call"
    )


def main() -> int:
    """Measure, print the table, write the JSON."""
    given = arguments()
    scenarios = plan(given)
    try:
        with measure.prepared() as cores, tempfile.TemporaryDirectory() as folder:
            certificate = Certificate(Path(folder)) if given.tls else None
            measure_all(scenarios, given, cores, certificate)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1 if isinstance(error, AppFailed) else 3
    except KeyboardInterrupt:
        return 130
    machine = measure.machine()
    measured = [scenario for scenario in scenarios if scenario.runs]
    if measured:
        print(report.table(scenarios), end="\n\n")
        print(report.goals_text(report.goals(scenarios)), end="\n\n")
        if ratios := report.ratios_text(report.ratios(scenarios)):
            print(ratios, end="\n\n")
        if costs := report.tls_text(scenarios):
            print(costs, end="\n\n")
        _print_start(measured)
        print(_machine_text(machine))
        options = {name: str(value) for name, value in vars(given).items()}
        report.write_json(given.json, scenarios, machine, options)
        print(f"All of it is in {given.json}.")
    for scenario in scenarios:
        if not scenario.runs:
            print(f"{scenario.name}: {scenario.refused[-1]}", file=sys.stderr)
    return 0 if len(measured) == len(scenarios) else 3


def _print_start(measured: list[Measurement]) -> None:
    for mode in measure.COMMANDS:
        values = [value for s in measured if s.mode == mode for value in s.values("start_s")]
        if values:
            ordered = sorted(values)
            print(
                f"Start to first /health, {mode}: {ordered[len(ordered) // 2]:.2f} s"
                f" ({ordered[0]:.2f}-{ordered[-1]:.2f})"
            )


def _machine_text(machine: dict[str, object]) -> str:
    versions = machine["versions"]
    assert isinstance(versions, dict)
    return (
        f"On {machine['cores']} cores of {machine['cpu']}, {machine['system']}, Python"
        f" {machine['python']}; " + ", ".join(f"{name} {v}" for name, v in versions.items())
    )


if __name__ == "__main__":
    sys.exit(main())
