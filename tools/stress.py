"""Run the fast tests on a machine that has little time for them, again and again.

    python -m tools.stress [RUNS]

Every run goes beside two busy loops, each pinned to a core; one more is without them, but all of
its processes are stopped (SIGSTOP) for six seconds at a random moment. Only Linux can do all this.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tools.app_process import HERE
from tools.process_resources import children

COMMAND = [sys.executable, "-m", "pytest", "--tier", "fast"]
RUNS = 10
BUSY_LOOPS = 2
STOPPED_SECONDS = 6.0
MOMENTS = (10.0, 60.0)  # seconds after the start, between which a run is stopped


class StressRun(NamedTuple):
    """How a run went: beside what, for how many seconds, and what failed in it."""

    beside: str
    seconds: float
    code: int
    summary: str
    failed: list[str]

    def __str__(self) -> str:
        verdict = "passed" if self.code == 0 else "FAILED"
        row = f"{self.beside:<24} {self.seconds:>5.0f} s  {verdict}  {self.summary}"
        return "\n".join([row, *(f"    {name}" for name in self.failed)])


@contextmanager
def busy_loops() -> Iterator[None]:
    """Keep cores busy meanwhile, one loop each."""
    cores = sorted(os.sched_getaffinity(0))[:BUSY_LOOPS]
    loops = [start_loop(core) for core in cores]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def start_loop(core: int) -> subprocess.Popen[bytes]:
    pinned = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    return subprocess.Popen([sys.executable, "-c", pinned])


def family(pid: int) -> list[int]:
    """List a process and all that it has started, parents first."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        return [pid, *(each for child in children(pid) for each in family(child))]
    return []


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stand_still(pid: int) -> None:
    """Stop a process and all that it has started for some seconds."""
    pids: list[int] = []
    while more := [each for each in family(pid) if each not in pids]:
        signal_all(more, signal.SIGSTOP)  # who is stopped starts nobody else
        pids += more
    time.sleep(STOPPED_SECONDS)
    signal_all(pids, signal.SIGCONT)


def run(beside: str, stopped_at: float | None = None) -> StressRun:
    """Run the tests, and stop them at that moment if one is given."""
    began = time.monotonic()
    tests = subprocess.Popen(COMMAND, cwd=HERE, stdout=subprocess.PIPE, text=True)
    if stopped_at is not None:
        time.sleep(stopped_at)
        stand_still(tests.pid)
    output, _ = tests.communicate()
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    summary = output.strip().rpartition("\n")[2].strip("= ")
    return StressRun(beside, time.monotonic() - began, tests.returncode, summary, failed)


def main() -> int:
    """Print a table of the runs; return how many of them failed."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    outcomes = []
    with busy_loops():
        for _ in range(runs):
            outcomes.append(run(f"{BUSY_LOOPS} busy loops"))
            print(outcomes[-1], flush=True)
    moment = random.uniform(*MOMENTS)
    outcomes.append(run(f"stopped after {moment:.0f} s", moment))
    print(outcomes[-1])
    return sum(1 for outcome in outcomes if outcome.code)


if __name__ == "__main__":
    sys.exit(main())
