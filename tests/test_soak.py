"""It leaves nothing behind: the soak in short. `make soak` is the long one."""

from __future__ import annotations

import pytest

from tools.harness import Resources
from tools.soak import WAYS, Row, Soak, soak


@pytest.mark.thorough("dozens of calls")
def test_calls_that_end_in_every_way_leave_nothing_behind(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = soak(mode, 3 * len(WAYS), step=len(WAYS), at_once=6)
    assert run.verdict() == []
    printed = capsys.readouterr().out
    assert all(str(row) in printed for row in run.rows)
    assert [row.calls for row in run.rows] == [n * len(WAYS) for n in range(4)]


@pytest.mark.parametrize(
    ("last", "complaint"),
    [
        (Row(1000, 9, Resources(6, 7, 8), 80_000), "threads: 5, then 6"),
        (Row(1000, 9, Resources(5, 8, 8), 80_000), "files: 7, then 8"),
        (Row(1000, 9, Resources(5, 7, 9), 80_000), "connections: 8, then 9"),
        (Row(1000, 9, Resources(5, 7, 8), 90_000), "memory: 10000 KiB more after 900 more calls"),
        (Row(1000, 9, Resources(5, 7, 8), 80_500), None),
    ],
)
def test_the_soak_notices_what_grows(last: Row, complaint: str | None) -> None:
    run = Soak.__new__(Soak)
    first = Row(100, 1, Resources(5, 7, 8), 80_000)
    run.rows, run.failures = [Row(0, 0, Resources(1, 1, 1), 70_000), first, last], []
    assert run.verdict() == ([complaint] if complaint else [])
