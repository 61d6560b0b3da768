"""Compare this version of the app with another: `python -m tools.bench.compare CHECKOUT`.

Both are measured in turn, with the libraries installed here. A run has some hundred turns, whose
p99 is the slowest but one and says little, so the samples of all runs are taken together. Behind
each ratio stands the range that holds it nine times in ten, by a bootstrap over the pairs of runs.

Exit code 0 when it was measured, 1 when an app failed, 3 when it can't be measured here.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tools.bench import measure
from tools.bench.load import PATTERNS, Run, run
from tools.bench.measure import BARE, COMMANDS, TREE, BenchError
from tools.bench.records import percentile, samples
from tools.certificate import Certificate
from tools.ports import ReservedPort

ATTEMPTS = 3  # at each run, if the generator couldn't keep up
RESAMPLES = 200
LEAST, MOST = 0.05, 0.95  # of the resamples: between them lie nine in ten
FRAMES = 10  # of so many samples of a frame's way one is taken: there are plenty


class Pair(NamedTuple):
    """What one run of each gave."""

    old: Run
    new: Run


@dataclass(frozen=True)
class Cpu:
    """CPU a call, in percent of a core."""

    name: str = "CPU a call, %"

    def __call__(self, runs: Sequence[Run]) -> float:
        """Return the mean over some runs."""
        return statistics.mean(each.metrics["cpu_percent_per_call"] for each in runs)


@dataclass(frozen=True)
class Latency:
    """A percentile of all the samples of one kind, in ms."""

    kind: str
    share: float

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.kind} p{100 * self.share:.0f}, ms"

    def __call__(self, runs: Sequence[Run]) -> float:
        """Return it over some runs; NaN if there are no samples."""
        together = samples()
        for each in runs:
            together += self._samples(each)
        return 1000 * percentile(together, self.share)

    def _samples(self, one: Run) -> array[float]:
        taken: array[float] = getattr(one.records, self.kind)
        return taken[::FRAMES] if self.kind == "uplink" else taken


Figure = Cpu | Latency
KINDS = ("turn", "uplink", "down", "clear")
FIGURES: tuple[Figure, ...] = (
    Cpu(),
    *(Latency(kind, share) for kind in KINDS for share in (0.5, 0.99)),
)


@dataclass(frozen=True)
class Comparison:
    """A figure of both, and the ratio of the new one to the old with its range."""

    name: str
    old: float
    new: float
    least: float
    most: float

    @property
    def line(self) -> str:
        """A line of the table."""
        change = _percent(self.new / self.old)
        within = f"{_percent(self.least)} to {_percent(self.most)}"
        return f"{self.name:16} {self.old:8.3f} {self.new:8.3f}  {change:>8}  ({within})"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def compare(pairs: Sequence[Pair], figure: Figure) -> Comparison | None:
    """Compare by one figure; None if there is nothing to compare."""
    old, new = (figure(side) for side in zip(*pairs, strict=True))
    if not old > 0:  # NaN isn't, either
        return None
    chance = random.Random(1)
    ratios = []
    for _ in range(RESAMPLES):
        olds, news = zip(*chance.choices(pairs, k=len(pairs)), strict=True)
        ratios.append(figure(news) / figure(olds))
    return Comparison(figure.name, old, new, percentile(ratios, LEAST), percentile(ratios, MOST))


def table(pairs: Sequence[Pair]) -> str:
    """Return all comparisons, a line each."""
    heading = f"{'':16} {'old':>8} {'new':>8}  {'change':>8}  (nine times in ten)"
    compared = (compare(pairs, figure) for figure in FIGURES)
    return "\n".join([heading, *(each.line for each in compared if each)])


# --- measuring --------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.compare", description=__doc__)
    add = parser.add_argument
    add("old", type=Path, metavar="CHECKOUT", help="folder of the version to compare with")
    add("--pattern", choices=PATTERNS, default="conversation", help="default: conversation")
    add("--mode", choices=sorted({*COMMANDS} - {BARE}), default="gevent", help="default: gevent")
    add("--calls", type=int, default=30, help="calls at once; default: 30")
    add("--pairs", type=int, default=8, help="runs of each; default: 8")
    add("--seconds", type=float, default=60.0, help="measured in each run; default: 60")
    add("--tls", action="store_true", help="with TLS towards OpenAI, as in production")
    add("--lateness-limit", type=float, default=measure.LATENESS_LIMIT, help=argparse.SUPPRESS)
    add("--patience", type=float, default=measure.QUIET_SECONDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not (given.old / "app.py").exists():
        parser.error(f"there is no app.py in {given.old}: name the folder of another checkout")
    return given


def measure_once(
    tree: Path,
    given: argparse.Namespace,
    cores: tuple[int, int],
    certificate: Certificate | None,
) -> Run:
    """Run one version once. Raises BenchError."""
    refusal = ""
    for _ in range(ATTEMPTS):
        measure.wait_for_quiet(cores, given.patience)
        with ReservedPort() as port:
            came_out = run(
                given.pattern,
                given.calls,
                given.seconds,
                given.mode,
                cores,
                port.number,
                certificate,
                tree.resolve(),
            )
        refusal = measure.bottleneck(came_out.metrics, measure.CPU_LIMIT, given.lateness_limit)
        if not refusal:
            return came_out
    raise BenchError(refusal)


def measure_pairs(
    given: argparse.Namespace, cores: tuple[int, int], certificate: Certificate | None
) -> list[Pair]:
    """Run both versions in turn; the one that comes first comes last in the next pair."""
    trees = {"old": given.old, "new": TREE}
    pairs = []
    for number in range(given.pairs):
        order = list(trees) if number % 2 == 0 else list(reversed(trees))
        came_out = {side: measure_once(trees[side], given, cores, certificate) for side in order}
        pairs.append(Pair(**came_out))
        print(f"  pair {number + 1} of {given.pairs}", file=sys.stderr, flush=True)
    return pairs


def main() -> int:
    """Measure both, and print the table."""
    given = arguments()
    try:
        with measure.cores() as cores, tempfile.TemporaryDirectory() as folder:
            certificate = Certificate(Path(folder)) if given.tls else None
            pairs = measure_pairs(given, cores, certificate)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1 if "app" in str(error) else 3
    except KeyboardInterrupt:
        return 130
    how = f"{given.mode}, TLS" if given.tls else given.mode
    print(f"{given.pattern}, {how}, {given.calls} calls, {given.pairs} pairs of runs")
    print(table(pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
