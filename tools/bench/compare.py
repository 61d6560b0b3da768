"""Compare this version of the app with another: `python -m tools.bench.compare CHECKOUT`.

Both are measured in turn, with the libraries installed here. The p99 of a single run is one of its
slowest few turns and says little, so the samples of all runs are pooled. Behind each ratio stands
its approximate 90 % range, by a bootstrap over the pairs of runs.

Exit code 0 when it was measured, 1 when an app failed, 3 when it can't be measured here.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tools.bench import measure
from tools.bench.load import PATTERNS, Measured, run
from tools.bench.measure import BARE, COMMANDS, TREE, AppFailed, BenchError
from tools.bench.records import percentile, samples
from tools.bench.report import COUNTS
from tools.certificate import Certificate
from tools.ports import ReservedPort

ATTEMPTS = 3  # at each run, if the generator couldn't keep up
RESAMPLES = 200
LEAST, MOST = 0.05, 0.95  # shares of the resamples between which the range lies
FEW = 5  # pairs; fewer have no range
THINNED = 7  # one uplink sample of so many is taken: there are plenty


class Pair(NamedTuple):
    """What one run of each version gave."""

    old: Measured
    new: Measured


@dataclass(frozen=True)
class Cpu:
    """CPU a call, in percent of a core."""

    name: str = "CPU a call, %"

    def __call__(self, runs: Sequence[Measured]) -> float:
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

    def __call__(self, runs: Sequence[Measured]) -> float:
        """Return it over some runs; NaN if there are no samples."""
        pooled = samples()
        for each in runs:
            pooled += self._samples(each)
        return 1000 * percentile(pooled, self.share)

    def _samples(self, one: Measured) -> array[float]:
        taken: array[float] = getattr(one.records, self.kind)
        return taken[::THINNED] if self.kind == "uplink" else taken


Figure = Cpu | Latency
KINDS = ("turn", "uplink", "down", "clear")
FIGURES: tuple[Figure, ...] = (
    Cpu(),
    *(Latency(kind, share) for kind in KINDS for share in (0.5, 0.99)),
)


@dataclass(frozen=True)
class Comparison:
    """A figure of both versions, and the range of the ratio of the new one to the old."""

    name: str
    old: float
    new: float
    least: float
    most: float

    @property
    def change(self) -> str:
        """The ratio as a change."""
        return _percent(self.new / self.old)

    @property
    def range(self) -> str:
        """Its range."""
        return f"{_percent(self.least)} to {_percent(self.most)}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def compare(pairs: Sequence[Pair], figure: Figure) -> Comparison | None:
    """Compare by one figure; None unless every run has it."""
    if not all(figure([side]) > 0 for pair in pairs for side in pair):  # NaN isn't, either
        return None
    chance = random.Random(1)
    ratios = [_ratio(chance.choices(pairs, k=len(pairs)), figure) for _ in range(RESAMPLES)]
    old, new = (figure(side) for side in zip(*pairs, strict=True))
    return Comparison(figure.name, old, new, percentile(ratios, LEAST), percentile(ratios, MOST))


def _ratio(pairs: Sequence[Pair], figure: Figure) -> float:
    old, new = (figure(side) for side in zip(*pairs, strict=True))
    return new / old


def table(pairs: Sequence[Pair]) -> str:
    """Return all comparisons, a line each, and what went wrong in the runs."""
    lines = [f"{'':16} {'old':>8} {'new':>8}  {'change':>8}  90 % range"]
    for figure in FIGURES:
        compared = compare(pairs, figure)
        if compared:
            line = f"{figure.name:16} {compared.old:8.3f} {compared.new:8.3f}  {compared.change:>8}"
            lines.append(f"{line}  {compared.range}" if len(pairs) >= FEW else line)
    return "\n".join([*lines, *_faults(pairs)])


def _faults(pairs: Sequence[Pair]) -> Iterator[str]:
    for name, side in zip(Pair._fields, zip(*pairs, strict=True), strict=True):
        for metric, words in COUNTS.items():
            count = sum(each.metrics[metric] for each in side)
            if count:
                yield f"{name}: {count:.0f} {words}"


# --- measuring --------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.compare", description=__doc__)
    add = parser.add_argument
    add("old", type=Path, metavar="CHECKOUT", help="folder of the version to compare with")
    add("--pattern", choices=PATTERNS, default="conversation", help="default: conversation")
    add("--mode", choices=sorted({*COMMANDS} - {BARE}), default="gevent", help="default: gevent")
    add("--calls", type=int, default=30, help="calls at once; default: 30")
    add("--pairs", type=int, default=8, help=f"runs of each; default: 8; under {FEW}: no ranges")
    add("--seconds", type=float, default=60.0, help="measured in each run; default: 60")
    add("--tls", action="store_true", help="with TLS towards OpenAI, as in production")
    limit, patience = measure.LATENESS_LIMIT, measure.QUIET_SECONDS
    add("--lateness-limit", type=float, default=limit, help="most p99 of the generator's own, ms")
    add("--patience", type=float, default=patience, help="most s to wait for quiet")
    given = parser.parse_args()
    if not (given.old / "app.py").exists():
        parser.error(f"there is no app.py in {given.old}: name the folder of another checkout")
    if given.pairs < 1:
        parser.error("--pairs must be at least 1")
    return given


class Comparer:
    """Measures both versions; `pairs` has what is complete."""

    def __init__(
        self, given: argparse.Namespace, cores: tuple[int, int], certificate: Certificate | None
    ) -> None:
        self.pairs: list[Pair] = []
        self._given = given
        self._cores = cores
        self._certificate = certificate

    def measure(self) -> None:
        """Run both in turn; the one that comes first comes last in the next pair.

        Raises BenchError.
        """
        trees = {"old": self._given.old.resolve(), "new": TREE}
        for number in range(self._given.pairs):
            order = list(trees) if number % 2 == 0 else list(reversed(trees))
            runs = {side: self._measure(trees[side]) for side in order}
            self.pairs.append(Pair(**runs))
            _tell(f"pair {number + 1} of {self._given.pairs}")

    def _measure(self, tree: Path) -> Measured:
        refusal = ""
        for _ in range(ATTEMPTS):
            measure.wait_for_quiet(self._cores, self._given.patience)
            one = self._run(tree)
            limits = measure.CPU_LIMIT, self._given.lateness_limit
            refusal = measure.bottleneck(one.metrics, *limits)
            if not refusal:
                return one
            _tell(refusal)
        raise BenchError(refusal)

    def _run(self, tree: Path) -> Measured:
        given = self._given
        with ReservedPort() as port:
            return run(
                given.pattern,
                given.calls,
                given.seconds,
                given.mode,
                self._cores,
                port.number,
                self._certificate,
                tree,
            )

    def report(self) -> str:
        """Return the table of the pairs that are complete."""
        given = self._given
        how = f"{given.mode}, TLS" if given.tls else given.mode
        title = f"{given.pattern}, {how}, {given.calls} calls, pairs of runs: {len(self.pairs)}"
        return f"{title}\n{table(self.pairs)}"


def _tell(words: str) -> None:
    print(f"  {words}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure both, and print the table, if need be of what is complete."""
    given = arguments()
    code = 0
    try:
        with measure.prepared() as cores, tempfile.TemporaryDirectory() as folder:
            certificate = Certificate(Path(folder)) if given.tls else None
            comparer = Comparer(given, cores, certificate)
            try:
                comparer.measure()
            finally:
                if comparer.pairs:
                    print(comparer.report())
    except BenchError as error:
        print(error, file=sys.stderr)
        code = 1 if isinstance(error, AppFailed) else 3
    except KeyboardInterrupt:
        code = 130
    return code


if __name__ == "__main__":
    sys.exit(main())
