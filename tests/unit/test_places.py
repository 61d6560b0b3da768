"""Places on the line, counted by several processes together."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf

import pytest
from websockets.protocol import Side

from places import FINISHED, LEAVING, PLACES, UNUSED, Finished, Places
from tests.unit.forks import in_a_fork
from wire import Connection


class Master:
    """What gunicorn's master has, and what its workers come from."""

    def __init__(self) -> None:
        self.tallies = [UNUSED] * 4
        self.places = Places(self.tallies)

    def fork(self) -> Places:
        """Return what a worker has: the same memory, but calls of its own."""
        worker = Places(self.tallies)
        worker.use_tally(self.places.open_tally())
        return worker


@pytest.fixture
def calls() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def call(places: Places, calls: ExitStack) -> Connection:
    """Have a call come in that takes one of these places."""
    ours, theirs = socket.socketpair()
    calls.callback(theirs.close)
    calls.callback(ours.close)
    stream = Connection(ours, Side.SERVER, 1000)
    calls.enter_context(places.taken_by(stream))
    return stream


def test_a_process_of_its_own_counts_its_calls(calls: ExitStack) -> None:
    places = Places([UNUSED] * 4)
    assert not places.are_taken(2)
    call(places, calls)
    assert not places.are_taken(2)
    second = call(places, calls)
    assert places.are_taken(2)
    second.abort()
    assert not places.are_taken(2), "a stream that has ended takes no place, though it is read on"


def test_a_call_that_is_over_is_forgotten(calls: ExitStack) -> None:
    places = Places([UNUSED])
    stream = call(places, calls)
    assert places.are_taken(1)
    calls.close()
    assert stream.open, "it was not aborted"
    assert not places.are_taken(1)


def test_a_full_process_is_not_busy_while_another_has_a_place(calls: ExitStack) -> None:
    master = Master()
    one, other = master.fork(), master.fork()
    for _ in range(3):
        call(one, calls)
    assert not one.are_taken(2)
    assert not other.are_taken(2)
    call(other, calls)
    assert one.are_taken(2)
    assert other.are_taken(2)


def test_the_end_of_a_call_gives_its_place_to_every_process(calls: ExitStack) -> None:
    master = Master()
    one, other = master.fork(), master.fork()
    call(other, calls)
    with ExitStack() as short:
        call(one, short)
        assert other.are_taken(1)
    assert not other.are_taken(1)


def test_the_calls_of_a_process_that_ended_take_no_place(calls: ExitStack) -> None:
    master = Master()
    master.fork()
    other = master.fork()
    call(other, calls)
    survivor = master.fork()
    assert not survivor.are_taken(1)
    master.places.close_tally(1)
    call(survivor, calls)
    assert not survivor.are_taken(1), "the first has a place left"
    master.places.close_tally(0)
    assert survivor.are_taken(1)
    assert not master.fork().are_taken(1), "a new process brings places of its own"


def test_without_a_limit_there_is_always_a_place(calls: ExitStack) -> None:
    places = Places([UNUSED])
    call(places, calls)
    assert not places.are_taken(inf)


def test_what_one_process_tells_is_known_in_all_that_come_from_its_master() -> None:
    number = PLACES.open_tally()
    in_a_fork(lambda: PLACES.close_tally(number))
    assert PLACES.open_tally() == number, "it is free again"
    PLACES.close_tally(number)


def test_that_all_will_be_stopped_is_known_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LEAVING, "value", False)
    in_a_fork(lambda: setattr(LEAVING, "value", True))
    assert LEAVING.value


def test_a_call_that_is_over_is_known_in_all() -> None:
    in_a_fork(lambda: FINISHED.add("CA over"))
    assert "CA over" in FINISHED
    assert "CA going on" not in FINISHED


@pytest.mark.parametrize("sid", ["CA" + "1" * 32, "", "CA\x00", "\u202e", "\ud83d", "x" * 3000])
def test_a_call_is_over_once_it_is_remembered(sid: str) -> None:
    finished = Finished([0] * 4)
    assert sid not in finished
    finished.add(sid)
    assert sid in finished


def test_the_latest_calls_that_are_over_are_remembered_and_no_other_is_taken_for_one() -> None:
    finished = Finished([0] * 4)
    for number in range(100):
        finished.add(f"CA{number}")
        assert f"CA{number}" in finished
    assert sum(f"CA{number}" in finished for number in range(100)) <= 4
    assert not any(f"CA{number}" in finished for number in range(100, 1000))
